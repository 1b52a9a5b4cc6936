"""Mail by SMTP (RFC 5321), in threads: two at a time, each on a connection of its own."""

import smtplib
import ssl
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import unquote, urlsplit

import attrs
import trio

from peershare.ports.mail import MailError

# In seconds, for each step of the dialogue.
_TIMEOUT = 10.0
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@attrs.frozen
class SmtpRules:
    """`url`: smtp://user:password@host:587, or smtps:// with port 465. `sender`: whose mail it is."""

    url: str = attrs.field(repr=False)
    sender: str


class SmtpMailer:
    """A `Mailer`. By smtp:// it speaks TLS if the server offers it; a password is never sent without."""

    def __init__(self, rules: SmtpRules) -> None:
        said = urlsplit(rules.url)
        self._sender = rules.sender
        self._host, self._is_tls = said.hostname or "", said.scheme == "smtps"
        self._port = said.port or (465 if self._is_tls else 587)
        self._user, self._password = unquote(said.username or ""), unquote(said.password or "")
        self._limiter = trio.CapacityLimiter(2)  # a mail that hangs holds up no other at once

    async def send(self, to: str, subject: str, text: str) -> None:
        try:
            message = self._write(to, subject, text)
            await trio.to_thread.run_sync(self._send, message, limiter=self._limiter, abandon_on_cancel=True)
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused) as error:
            # What the server says may have the recipient's address in it.
            code = _code(error)
            raise MailError(f"{type(error).__name__} {code}", is_final=500 <= code < 600) from error
        except (smtplib.SMTPException, OSError) as error:
            raise MailError(str(error) or type(error).__name__) from error
        except (ValueError, LookupError, MessageError) as error:  # of an address that can't be written
            raise MailError(type(error).__name__, is_final=True) from error

    def _write(self, to: str, subject: str, text: str) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"] = self._sender, Address(addr_spec=to)
        message["Subject"], message["Date"] = subject, formatdate()
        message["Message-ID"] = make_msgid(domain=self._domain)
        message["Auto-Submitted"] = "auto-generated"  # nobody's holiday notice answers it (RFC 3834)
        message.set_content(text)
        return message

    @property
    def _domain(self) -> str:
        return self._sender.rpartition("@")[2].rstrip(">")

    def _send(self, message: EmailMessage) -> None:
        with self._connect() as connection:
            if self._user:
                is_safe = isinstance(connection.sock, ssl.SSLSocket) or self._host in _LOOPBACK
                if not is_safe:
                    raise smtplib.SMTPException("the server offers no TLS, and a password is to be sent")
                connection.login(self._user, self._password)
            connection.send_message(message)

    def _connect(self) -> smtplib.SMTP:
        # The name is given, since to look it up may take long.
        tls, where = ssl.create_default_context(), (self._host, self._port, self._domain)
        if self._is_tls:
            return smtplib.SMTP_SSL(*where, timeout=_TIMEOUT, context=tls)
        connection = smtplib.SMTP(*where, timeout=_TIMEOUT)
        try:
            connection.ehlo_or_helo_if_needed()
            if connection.has_extn("starttls"):
                connection.starttls(context=tls)
        except BaseException:
            connection.close()
            raise
        return connection


def _code(error: smtplib.SMTPResponseException | smtplib.SMTPRecipientsRefused) -> int:
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code
    [(code, _said), *_] = error.recipients.values()
    return int(code)
