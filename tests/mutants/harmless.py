"""Drawn mutants that change nothing which anybody could notice, each with the reason.

A mutant is known by its key (see draw.py), so an entry outlives changes elsewhere in the file. When the code of a
key changes, its mutant is judged again: `make mutants` names the entries whose code is gone.
"""

HARMLESS: dict[str, str] = {
    "ingest/admission.py::admit: return Admission.EXCLUDED => return None": (
        "callers ask only whether the verdict is YES or LATER, and mypy refuses None here"
    ),
    "upload.py::bind: setting.attempts = 0 => setting.attempts = 1": (
        "the number only makes the name of the next batch; both sides accept the names of all LOST_ANSWERS attempts"
    ),
    "upload.py::_plain: return None => pass": "the end of the function is next, and returns None as well",
}
