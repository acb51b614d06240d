"""Privacy: what of a session stays on this machine. Secrets are masked, excluded projects are never stored.

`Masking` covers secrets in what is read, by the policy that `Terms` make of the configuration; `Exclusion`
says which working directories are none of our business.
"""

from __future__ import annotations

from sessiond.privacy.exclusion import IGNORE, Exclusion
from sessiond.privacy.masking import Masking
from sessiond.privacy.terms import Terms, has_only_built_in_rules, read_terms

__all__ = ["IGNORE", "Exclusion", "Masking", "Terms", "has_only_built_in_rules", "read_terms"]
