"""Which sender serves a channel: by the names in the settings, several as one that fails over."""

from __future__ import annotations

from importlib import import_module

from app.config import Settings, SettingsError
from app.delivery.senders import Sender
from app.delivery.senders.counted import Counted
from app.delivery.senders.failover import Failover
from app.delivery_config import PROVIDERS

CHANNELS = {"email": "email_provider", "sms": "sms_provider"}


def senders_of(settings: Settings) -> dict[str, Sender]:
    """One sender for each channel. A provider's module is imported when it is named, and not before: some are large.

    Raises SettingsError for one that cannot be found or whose templates do not fit.
    """
    return {channel: _of_channel(settings, channel, setting) for channel, setting in CHANNELS.items()}


def _of_channel(settings: Settings, channel: str, setting: str) -> Sender:
    names = getattr(settings, setting)
    found: dict[str, Sender] = {name: Counted(_one(settings, channel, setting, name)) for name in names}
    if len(found) == 1:
        return found[names[0]]
    return Failover(channel, found, settings.sms_routes if channel == "sms" else {})


def _one(settings: Settings, channel: str, setting: str, name: str) -> Sender:
    """The sender of a name, or a class of the operator's by its dotted path, made with the settings alone."""
    try:
        if name in PROVIDERS[setting]:
            module = import_module(f"app.delivery.senders.{name}")
            sender: Sender = module.build(settings, channel)
        else:
            place, _, attribute = name.rpartition(".")
            sender = getattr(import_module(place), attribute)(settings)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"{setting.upper()}: cannot find {name} ({type(error).__name__})") from error
    if sender.channel != channel:
        raise SettingsError(f"{setting.upper()}: {name} sends {sender.channel}, not {channel}")
    return sender
