"""Privacy: secrets are masked before anything is stored, and excluded projects are never stored.

`Masking` masks the secrets in transcripts and records, by the rules that `Terms` reads from the configuration.
`Exclusion` decides which working directories are not captured.
"""

from __future__ import annotations

from sessiond.privacy.exclusion import IGNORE, Exclusion
from sessiond.privacy.masking import Masking
from sessiond.privacy.terms import Terms, has_only_built_in_rules, read_terms

__all__ = ["IGNORE", "Exclusion", "Masking", "Terms", "has_only_built_in_rules", "read_terms"]
