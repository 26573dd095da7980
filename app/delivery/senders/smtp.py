"""Mail over SMTP: STARTTLS, implicit TLS or none; one connection, kept for the next message.

A reply of 4xx is temporary, 5xx permanent (RFC 5321, section 4.2.1). Whose fault that is says the step, and where the
recipient was named, the enhanced status code (RFC 3463): servers put off until then what they have against the client
or the sender. After the message was handed over a time-out is 'unknown': the server may have taken it.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import time
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from enum import Enum

from app.config import Settings
from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed
from app.delivery.senders.line import Line, dial, left

CONNECT_S = 3.0  # for each address of the host
TIMEOUT_S = 8.0  # for each step of the conversation
WHOLE_S = 10.0  # for all of it: less than half the lease of a message, also after others that failed
ALIVE_S = 2.0  # for a connection that was kept to say that it is there
LONGEST_REPLY = 64 * 1024
KEEP_S = 30  # an idle connection older than this is not trusted
ENHANCED = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})\b")
QUOTA = ("5.4.5",)  # of the account, as Gmail says it
SEVEN_BITS = SMTP.clone(cte_type="7bit")  # for eight a server would have to offer 8BITMIME, and be told (RFC 6152)
OUR_AUTHENTICATION = (530, 534, 535, 538)  # RFC 4954, section 6
OF_THE_SENDER = ("5.1.7", "5.1.8")  # among the codes of addresses
OURS = ("5.3.", "5.4.", "5.5.", "5.7.")  # mail system, routing, protocol, policy


class Step(Enum):
    """How far a conversation had come that was refused."""

    SENDER = 1  # and all before it
    RECIPIENT = 2
    MESSAGE = 3


class SmtpSender:
    name, channel = "smtp", "email"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._domain = settings.sender_email.rpartition("@")[2] or "localhost"
        self._open: _Conversation | None = None
        self._used_at = 0.0

    def send(self, message: Outgoing) -> Receipt:
        mail = self._compose(message)
        deadline = time.monotonic() + WHOLE_S
        try:
            smtp = self._connection(deadline)
            self._offer(smtp, deadline)
        except (OSError, smtplib.SMTPException) as error:
            self._drop()
            raise _refused(error, Step.SENDER) from error
        except UnicodeError:  # without the cause, which holds the password
            self._drop()
            raise SendFailed(
                Reason.CONFIGURATION, "letters in the mail account or host that SMTP cannot carry"
            ) from None
        try:
            self._address(smtp, message.recipient, deadline)
        except (OSError, smtplib.SMTPException) as error:
            self._drop()
            raise _refused(error, Step.RECIPIENT) from error
        try:
            code, reply = _hand_over(smtp, mail.as_bytes(), deadline)
        except smtplib.SMTPDataError as error:  # refused before the message was handed over
            self._drop()
            raise _refused(error, Step.MESSAGE) from error
        except (OSError, smtplib.SMTPException) as error:
            self._drop()
            raise SendFailed(Reason.UNKNOWN, f"no answer to the message: {type(error).__name__}") from error
        if code != 250:
            self._drop()
            raise _by_code(code, reply, Step.MESSAGE)
        self._used_at = time.monotonic()
        return Receipt(self.name, mail["Message-ID"])

    def _compose(self, message: Outgoing) -> EmailMessage:
        mail = EmailMessage(policy=SEVEN_BITS)
        mail["From"] = Address(self._settings.brand_name, addr_spec=self._settings.sender_email)
        mail["To"] = message.recipient
        mail["Subject"] = message.subject
        mail["Date"] = formatdate(usegmt=True)
        mail["Message-ID"] = f"<{message.id}@{self._domain}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation answers
        mail.set_content(message.text)
        mail.add_alternative(message.html, subtype="html")
        return mail

    def _offer(self, smtp: _Conversation, deadline: float) -> None:
        smtp.hurry(deadline)
        code, reply = smtp.mail(self._settings.sender_email)
        if code != 250:
            raise smtplib.SMTPResponseException(code, reply)

    def _address(self, smtp: _Conversation, recipient: str, deadline: float) -> None:
        smtp.hurry(deadline)
        code, reply = smtp.rcpt(recipient)
        if code not in (250, 251):
            raise smtplib.SMTPResponseException(code, reply)

    def _connection(self, deadline: float) -> _Conversation:
        if self._open is not None:
            fresh = time.monotonic() - self._used_at < KEEP_S
            if fresh and self._alive(self._open, deadline):
                return self._open
            self._drop()
        self._open = self._connect(deadline)
        return self._open

    def _alive(self, smtp: _Conversation, deadline: float) -> bool:
        try:
            smtp.hurry(deadline, at_most=ALIVE_S)
            return smtp.rset()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False

    def _connect(self, deadline: float) -> _Conversation:
        s = self._settings
        context = None if s.smtp_tls == "none" else ssl.create_default_context()
        by_tls = context if s.smtp_tls == "ssl" else None
        smtp = _Conversation(s.smtp_server, s.smtp_port, self._domain, deadline, by_tls)
        try:
            smtp.hurry(deadline)
            if s.smtp_tls == "starttls":
                smtp.starttls(context=context)
                smtp.hurry(deadline)
            smtp.ehlo_or_helo_if_needed()
            if s.smtp_username:
                smtp.hurry(deadline)
                smtp.login(s.smtp_username, s.smtp_password.get_secret_value())
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _drop(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class _Conversation(smtplib.SMTP):
    """SMTP each of whose steps ends in time, whatever the server says, and however slowly. `context`: of TLS from the
    start.
    """

    def __init__(self, host: str, port: int, name: str, deadline: float, context: ssl.SSLContext | None) -> None:
        self._until, self._context = deadline, context
        super().__init__(host, port, name, timeout=TIMEOUT_S)

    def hurry(self, deadline: float, at_most: float | None = None) -> None:
        """Give the next step what is left of the whole, at most its usual time. Raises TimeoutError when nothing is."""
        seconds = left(deadline, at_most or TIMEOUT_S)
        if self.sock is None:
            raise TimeoutError("the conversation takes too long")
        self.sock.settimeout(seconds)
        self._until = time.monotonic() + seconds

    def getreply(self) -> tuple[int, bytes]:
        """The next reply, of all its lines."""
        if self.file is None and self.sock is not None:
            self.file = Line(self.sock, self._until).makefile("rb")
        if self.file is not None:
            self.file.raw.deadline, self.file.raw.room = self._until, LONGEST_REPLY
        return super().getreply()

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """The library's way to connect, which gives each address of a host as long as all of them may take."""
        opened = dial(host, port, self._until, CONNECT_S)
        opened.settimeout(left(self._until, timeout))
        self._until = min(self._until, time.monotonic() + timeout)
        return self._context.wrap_socket(opened, server_hostname=host) if self._context else opened


def _hand_over(smtp: _Conversation, mail: bytes, deadline: float) -> tuple[int, bytes]:
    """DATA, the message and its end. The answer gets all the time that is left: a server that looks through mail first
    is slow here (RFC 5321, section 4.5.3.2.6), and whoever does not wait sends the message twice.
    """
    smtp.hurry(deadline)
    code, reply = smtp.docmd("data")
    if code != 354:
        raise smtplib.SMTPDataError(code, reply)
    smtp.hurry(deadline, at_most=WHOLE_S)
    smtp.send(re.sub(rb"(?m)^\.", b"..", mail) + b".\r\n")
    return smtp.getreply()


def _refused(error: Exception, step: Step) -> SendFailed:
    if isinstance(error, (ssl.SSLError, smtplib.SMTPNotSupportedError, smtplib.SMTPAuthenticationError)):
        return SendFailed(Reason.CONFIGURATION, f"{type(error).__name__}: TLS or the mail account")
    if isinstance(error, smtplib.SMTPResponseException):
        return _by_code(error.smtp_code, error.smtp_error, step)
    return SendFailed(Reason.TRANSIENT, f"cannot reach the mail server: {type(error).__name__}")


def _by_code(code: int, reply: bytes | str, step: Step) -> SendFailed:
    # Only the numbers: the words of the reply often repeat the recipient.
    found = ENHANCED.match(reply.decode(errors="replace") if isinstance(reply, bytes) else reply)
    enhanced = found[1] if found else ""
    return SendFailed(_meaning(code, enhanced, step), f"the mail server answered {code} {enhanced}".strip())


def _meaning(code: int, enhanced: str, step: Step) -> Reason:
    if not 500 <= code < 600:
        return Reason.TRANSIENT
    if enhanced in QUOTA:
        return Reason.THROTTLED
    ours = enhanced in OF_THE_SENDER or enhanced.startswith(OURS) or code in OUR_AUTHENTICATION
    if step is Step.SENDER or (step is Step.RECIPIENT and ours):
        return Reason.CONFIGURATION
    return Reason.PERMANENT


def build(settings: Settings, _channel: str) -> SmtpSender:
    return SmtpSender(settings)
