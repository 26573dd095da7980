"""Which sender serves a channel: by the names in the settings, several as one that fails over."""

from __future__ import annotations

from importlib import import_module

from app.config import Settings, SettingsError
from app.delivery import reports
from app.delivery.senders import Sender
from app.delivery.senders.counted import Counted
from app.delivery.senders.failover import Failover
from app.delivery_config import PROVIDERS
from app.models.outbox import LONGEST_NAME

CHANNELS = {"email": "email_provider", "sms": "sms_provider"}


def senders_of(settings: Settings) -> dict[str, Sender]:
    """One sender for each channel. A provider's module is imported when it is named, and not before: some are large.

    Raises SettingsError for one that cannot be found or made, has no name to be stored, or whose templates do not fit.
    """
    return {channel: _of_channel(settings, channel, setting) for channel, setting in CHANNELS.items()}


def _of_channel(settings: Settings, channel: str, setting: str) -> Sender:
    names = getattr(settings, setting)
    found: dict[str, Sender] = {_remembered(n): Counted(_one(settings, channel, setting, n)) for n in names}
    if len(found) < len(set(names)):
        raise SettingsError(f"{setting.upper()}: the last {LONGEST_NAME} characters of two names are the same")
    if len(found) == 1:
        return found[_remembered(names[0])]
    routes = {country: tuple(map(_remembered, route)) for country, route in settings.sms_routes.items()}
    return Failover(channel, found, routes if channel == "sms" else {})


def _remembered(name: str) -> str:
    """As much of a name as a message remembers of who may have sent it: its end, which tells paths apart."""
    return name[-LONGEST_NAME:]


def _one(settings: Settings, channel: str, setting: str, name: str) -> Sender:
    """The sender of a name, or a class of the operator's by its dotted path, made with the settings alone."""
    try:
        if name in PROVIDERS[setting]:
            module = import_module(f"app.delivery.senders.{name}")
            sender: Sender = module.build(settings, channel)
        else:
            place, _, attribute = name.rpartition(".")
            sender = getattr(import_module(place), attribute)(settings)
    except SettingsError:
        raise
    except Exception as error:  # of the operator's own class it may be any; its words may hold what it was given
        verb = "find" if isinstance(error, (ImportError, AttributeError)) else "make"
        raise SettingsError(f"{setting.upper()}: cannot {verb} {name} ({type(error).__name__})") from error
    if not all(hasattr(sender, part) for part in ("name", "channel", "send")):
        raise SettingsError(f"{setting.upper()}: {name} is no sender, which has name, channel and send")
    if sender.channel != channel:
        raise SettingsError(f"{setting.upper()}: {name} sends {sender.channel}, not {channel}")
    if reports.word(sender.name) != sender.name or not 0 < len(sender.name) <= LONGEST_NAME:
        raise SettingsError(f"{setting.upper()}: {name} needs a name of 1 to {LONGEST_NAME} printable ASCII characters")
    return sender
