"""How long work tells how far it is, and learns that nobody wants it any more."""


class Cancelled(Exception):
    """Raised inside a job's work by `checkpoint` once the job was cancelled."""
