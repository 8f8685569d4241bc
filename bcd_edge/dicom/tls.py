"""DICOM over TLS (PS3.15, B.9: BCP 195): own certificate, and whose certificates are accepted."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from bcd_edge.errors import UsageError


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM format.

    Attributes:
        certificate: own, with the chain to its authority; needed to receive.
        key: of the certificate; None where its file holds it, too.
        authority: who has signed the certificates of peers, whose callers must show one; the system's for archives if not given.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    def server(self) -> ssl.SSLContext:
        """For receiving.

        Raises:
            UsageError: there is no certificate, or a file is none.
        """
        if self.certificate is None:
            raise UsageError("To receive DICOM over TLS a certificate is needed; give --dicom-certificate and --dicom-key.")
        context = self._context(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED if self.authority else ssl.CERT_NONE
        return context

    def client(self) -> ssl.SSLContext:
        """For sending.

        Raises:
            UsageError: a file is no certificate or key.
        """
        return self._context(ssl.Purpose.SERVER_AUTH)

    def _context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(purpose, cafile=self.authority)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(path) for path in (self.certificate, self.key, self.authority) if path)
            raise UsageError(
                f"TLS cannot be used with {files} ({getattr(error, 'reason', None) or error}); give PEM files that belong together."
            ) from None
        return context
