"""A sender whose attempts are counted and timed: the registry puts every provider behind one."""

from __future__ import annotations

import time

from app import figures
from app.delivery.senders import Outgoing, Reason, Receipt, Sender, SendFailed

TAKEN = "taken"


class Counted:
    def __init__(self, sender: Sender) -> None:
        self.name, self.channel = sender.name, sender.channel
        self._sender = sender
        for outcome in (TAKEN, *Reason):
            figures.SENDS.labels(self.channel, self.name, outcome)  # from 0, so that the first is seen as a rise
        for figure in (figures.CODES_SENT, figures.CODES_DELIVERED, figures.CODES_VERIFIED, figures.SEND_SECONDS):
            figure.labels(self.channel, self.name)

    def send(self, message: Outgoing) -> Receipt:
        outcome: str = Reason.UNKNOWN  # of one that stumbles
        began = time.perf_counter()
        try:
            receipt: object = self._sender.send(message)
            if not isinstance(receipt, Receipt):
                raise TypeError(f"{self.name} returned no Receipt")
            outcome = TAKEN
        except SendFailed as failure:
            outcome = failure.reason
            raise
        finally:
            figures.SEND_SECONDS.labels(self.channel, self.name).observe(time.perf_counter() - began)
            figures.SENDS.labels(self.channel, self.name, outcome).inc()
        return receipt
