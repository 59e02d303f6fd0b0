"""Telling somebody how an unattended run ended: a monitor, a webhook, mail. Nothing here is ever a reason to fail."""

from regstore.notify.channels import Channel, open_channels
from regstore.notify.report import Report, outcome_word

__all__ = ["Channel", "Report", "open_channels", "outcome_word"]
