"""A second provider of SMS for `sms_hang --providers 2`: the same stand-in by another name."""

from app.delivery.senders.twilio import TwilioSender


class Second(TwilioSender):
    name = "second"
