"""Passwords in files that are replaced while we run: Kubernetes Secrets, Vault agents and the like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from redis.credentials import CredentialProvider

if TYPE_CHECKING:
    from pathlib import Path

# A password; beyond it somebody named the wrong file.
MAX_BYTES: Final = 64 * 1024

# What AUTH takes: the password, or user and password.
Login: TypeAlias = tuple[str] | tuple[str, str]


class PasswordError(ConnectionError):
    """The password cannot be read; the text names the file and nothing of what is in it."""


class PasswordFile(CredentialProvider):
    """One connection's login (redis-py's CredentialProvider): what the file holds, what was said of it."""

    def __init__(self, path: Path, username: str | None = None) -> None:
        """Read from `path`; without `username` it is Redis' default user."""
        self._path = path
        self._username = username
        self._said: Login | None = None

    def fresh(self) -> PasswordFile:
        """Return the same for another connection: each has to say a new password for itself."""
        return PasswordFile(self._path, self._username)

    def read(self) -> str:
        """Return the file's text without the line end that editors leave.

        Raises:
            PasswordError: it cannot be read, is empty or no password.
        """
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise PasswordError(f"{self._path}: cannot be read: {error.strerror}") from None
        try:
            text = content.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise PasswordError(f"{self._path}: is not UTF-8 text") from None
        if not text or len(content) > MAX_BYTES or "\n" in text:
            raise PasswordError(f"{self._path}: must hold one line, the password")
        return text

    def get_credentials(self) -> Login:
        """Return what AUTH takes: redis-py says it as it connects."""
        self._said = self._login()
        return self._said

    async def get_credentials_async(self) -> Login:
        """Return what AUTH takes. A small local file, read once per connection: not worth a thread."""
        return self.get_credentials()

    def news(self) -> Login | None:
        """Return what AUTH takes if the connection has not said it yet; `said` when Redis has taken it."""
        try:
            login = self._login()
        except PasswordError:
            return None  # between two files; what is in use still works
        return None if login == self._said else login

    def said(self, login: Login) -> None:
        """Remember that Redis has taken `login`."""
        self._said = login

    def _login(self) -> Login:
        password = self.read()
        return (password,) if self._username is None else (self._username, password)
