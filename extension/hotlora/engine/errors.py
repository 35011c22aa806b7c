"""What a user can cause, and what to do about it."""


class UserError(Exception):
    """Something the user can mend.

    The message is one or two sentences: *cannot do what to which value: reason. What to do.* Hosts and the command
    line show it as it is, without a traceback. Anything else that is raised is a bug and gets a full traceback.
    """


class ModelAway(UserError):
    """The model that a run trains on is not what its host holds now. A run waits for it instead of failing."""


class HandedBack(ModelAway):
    """Somebody wants a paused run to keep nothing of the model, and the host to unload it."""
