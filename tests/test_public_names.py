"""The names that a user sees."""

import ptmetrics as pm


def test_dir_shows_the_public_names_and_no_others() -> None:
    pm.judge  # noqa: B018 — looked up names stay in the module
    assert dir(pm) == sorted(pm.__all__)
    assert {"judge", "Monitor", "report"} <= set(dir(pm))
    assert not {"Any", "import_module", "show", "TYPE_CHECKING"} & set(dir(pm))
    for name in dir(pm):
        assert getattr(pm, name) is not None
