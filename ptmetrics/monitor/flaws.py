"""Flaws of a loop that raise nothing by themselves: what was expected, what was seen, and the cure."""

NO_FORWARD = (
    "a call of the attached model for each batch",
    "a batch without one",
    "Attach the object that the loop calls.",
)
NOTHING_SEEN = (
    "predictions in an epoch",
    "none at all",
    "Attach the object that the loop calls, with its criterion, or call update().",
)
TRAINING_MODE = (
    "a model in evaluation mode",
    "one in training mode",
    "Call model.eval() before it.",
)
STEP_IN_EVAL = (
    "steps of a model in training mode",
    "one with model.training False, whose batches were counted as validation",
    "Call model.train() before training.",
)
COUNTED_TWICE = (
    "a batch that no hook has counted",
    "one that a hook has, so it was left out here",
    "Leave out update(), or the criterion and the loader wrapper.",
)
IDS_WITHOUT_BATCH = (
    "a watched loader, whose batches hold the slices and groups",
    "a batch without them, whose rows are of no slice and independent",
    "Wrap the loaders: monitor.train(loader), monitor.validate(loader).",
)
