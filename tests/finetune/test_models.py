import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from ptmetrics.errors import ConfigError, StateError
from ptmetrics.finetune.config import ModelConfig
from ptmetrics.finetune.models import (
    build_model,
    freeze_backbone,
    head,
    head_parameters,
    read_checkpoint,
)

SMALL = ModelConfig("squeezenet1_1")  # 1.2 million parameters
FAMILIES = [
    "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mnasnet0_5", "mobilenet_v2",
    "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t",
]  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "mine.pt"
    torch.save(build_model(SMALL, 5).state_dict(), path)
    return path


def equal_backbones(first: nn.Module, second: nn.Module, head_name: str) -> bool:
    others = second.state_dict()
    own = {key: value for key, value in first.state_dict().items() if not key.startswith(head_name)}
    return all(torch.equal(value, others[key]) for key, value in own.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gets_a_new_last_layer_and_gives_one_tensor_of_scores(name: str) -> None:
    model = build_model(ModelConfig(name), 7).to("meta").train()
    size = 299 if name == "inception_v3" else 224
    output = model(torch.empty(2, 3, size, size, device="meta"))
    assert isinstance(output, torch.Tensor)
    assert output.shape == (2, 7)
    assert head_parameters(model)[0].shape[0] == 7


def test_without_weights_and_options_the_backbone_is_torchvisions() -> None:
    torch.manual_seed(0)
    ours = build_model(ModelConfig("resnet18"), 3)
    torch.manual_seed(0)
    assert equal_backbones(ours, get_model("resnet18"), "fc.")


def test_a_cifar_stem_keeps_small_images_large() -> None:
    model = build_model(ModelConfig("resnet18", stem="cifar"), 10)
    last_maps = []
    model.layer4.register_forward_hook(
        lambda _module, _inputs, output: last_maps.append(output.shape[2:])
    )
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert last_maps == [(4, 4)]


def test_skipping_padding_changes_results_by_rounding_alone() -> None:
    torch.manual_seed(0)
    plain = build_model(ModelConfig("resnet18"), 10).eval()
    skipping = build_model(ModelConfig("resnet18", skip_padding=True), 10).eval()
    skipping.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(skipping(images), plain(images))


def test_a_checkpoint_gives_the_backbone_and_leaves_the_head_new(checkpoint: Path) -> None:
    model = build_model(ModelConfig(SMALL.name, weights=str(checkpoint)), 5)
    stored = torch.load(checkpoint, weights_only=True)
    same = [key for key, value in model.state_dict().items() if torch.equal(value, stored[key])]
    assert set(stored) - set(same) == {"classifier.1.weight", "classifier.1.bias"}


@pytest.mark.parametrize("classes", [2, 9])
def test_a_checkpoint_of_other_classes_fits_too(checkpoint: Path, classes: int) -> None:
    model = build_model(ModelConfig(SMALL.name, weights="source-task"), classes, checkpoint)
    assert head_parameters(model)[0].shape[0] == classes
    assert equal_backbones(
        model, build_model(ModelConfig(SMALL.name, weights=str(checkpoint)), 5), "classifier.1."
    )


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_a_state_dict_may_stand_below_a_key(checkpoint: Path, tmp_path: Path, key: str) -> None:
    path = tmp_path / "wrapped.pt"
    torch.save({key: torch.load(checkpoint, weights_only=True), "epoch": 3}, path)
    model = build_model(ModelConfig(SMALL.name, weights=str(path)), 5)
    assert equal_backbones(
        model, build_model(ModelConfig(SMALL.name, weights=str(checkpoint)), 5), "classifier.1."
    )


def test_a_checkpoint_without_head_or_batch_counters_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    state = build_model(ModelConfig("mobilenet_v3_small"), 4).state_dict()
    kept = {
        k: v
        for k, v in state.items()
        if not k.endswith("num_batches_tracked") and "classifier.3" not in k
    }
    torch.save(kept, path)
    model = build_model(ModelConfig("mobilenet_v3_small", weights=str(path)), 4)
    assert torch.equal(model.state_dict()["features.0.0.weight"], kept["features.0.0.weight"])


@pytest.mark.fault(43)
@pytest.mark.parametrize("wrapped", [True, False], ids=["zip", "bare pickle"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, wrapped: bool) -> None:
    witness, path = tmp_path / "code_was_run", tmp_path / "hostile.pt"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(witness),)

    with path.open("wb") as file:
        (torch.save if wrapped else pickle.dump)({"model": Payload()}, file)
    rule = r"hostile\.pt: expected a file of tensors only, got one that cannot be read safely \(.*\)\. Give a file that"
    with pytest.raises(StateError, match=rule):
        build_model(ModelConfig(SMALL.name, weights=str(path)), 5)
    assert not witness.exists()


@pytest.mark.fault(42)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x00" * 100, b"plain text"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(
        StateError, match=r"damaged\.pt: expected a file of tensors only, got .*\. Give a file that"
    ):
        read_checkpoint(path)


@pytest.mark.fault(42)
def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.pt"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(
        StateError, match=r"list\.pt: expected a state dict, got a list\. Give a file that"
    ):
        build_model(ModelConfig(SMALL.name, weights=str(path)), 5)
    torch.save({"epoch": 3}, path)
    with pytest.raises(
        StateError,
        match=r"expected a state dict of tensors, got something else under 'epoch'\. Save",
    ):
        build_model(ModelConfig(SMALL.name, weights=str(path)), 5)


@pytest.mark.fault(42)
@pytest.mark.parametrize("trouble", ["missing", "not in the model", "of another shape"])
def test_weights_of_another_model_are_refused_with_their_names(
    checkpoint: Path, tmp_path: Path, trouble: str
) -> None:
    state, path = torch.load(checkpoint, weights_only=True), tmp_path / "other.pt"
    if trouble == "missing":
        del state["features.0.bias"]
    elif trouble == "not in the model":
        state["features.0.extra"] = torch.zeros(1)
    else:
        state["features.0.bias"] = torch.zeros(65)
    torch.save(state, path)
    rule = rf"other\.pt: expected the weights of this model, got 1 {trouble}: features\.0\.\w+\. Set name and stem"
    with pytest.raises(StateError, match=rule):
        build_model(ModelConfig(SMALL.name, weights=str(path)), 5)


def test_published_weights_without_a_network_name_the_file_and_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(
        "https_proxy", "http://127.0.0.1:9"
    )  # the port of "discard": refuses at once
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    rule = (
        r"model\.weights: expected torchvision's weights of squeezenet1_1, got no download .*refused.*\. "
        rf"Fetch https://\S+squeezenet1_1\S+\.pth where .* put it in {tmp_path}/hub/checkpoints, or set weights"
    )
    with pytest.raises(ConfigError, match=rule):
        build_model(ModelConfig(SMALL.name, weights="imagenet"), 5)


def test_published_weights_that_lie_in_the_hubs_folder_need_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(5)
    published = get_model(SMALL.name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.save(published.state_dict(), folder / "squeezenet1_1-b8a52dc0.pth")
    model = build_model(ModelConfig(SMALL.name, weights="imagenet"), 5)
    assert equal_backbones(model, published, "classifier.1.")
    assert head_parameters(model)[0].shape[0] == 5


def test_an_unknown_model_is_refused_with_the_nearest_ones() -> None:
    rule = r"model\.name: expected a classification model of torchvision, got 'resnet19'\. Did you mean resnet18"
    with pytest.raises(ConfigError, match=rule):
        build_model(ModelConfig("resnet19"), 5)


@pytest.mark.parametrize("name", ["fcn_resnet50", "fasterrcnn_resnet50_fpn", "r3d_18"])
def test_models_of_other_tasks_are_refused(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"expected a classification model of torchvision, got '{name}'\."
    ):
        build_model(ModelConfig(name), 5)


def test_a_cifar_stem_is_for_resnets() -> None:
    rule = r"model\.stem: expected \"default\" for a model that is no ResNet, got \"cifar\" for squeezenet1_1\. Set"
    with pytest.raises(ConfigError, match=rule):
        build_model(ModelConfig(SMALL.name, stem="cifar"), 5)


def test_source_task_weights_must_be_given() -> None:
    with pytest.raises(
        ConfigError, match=r"weights_source: expected a file with .*, got none\. Pass the path"
    ):
        build_model(ModelConfig(SMALL.name, weights="source-task"), 5)


def test_a_network_that_is_none_of_torchvisions_has_no_known_head() -> None:
    with pytest.raises(
        ConfigError, match=r"model: expected a last layer under fc, .*, got Sequential\. Choose"
    ):
        head(nn.Sequential(nn.Linear(2, 2)))


def test_a_frozen_backbone_does_not_change_in_training_and_a_thawed_one_does() -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig("mobilenet_v3_small"), 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    inputs = torch.randn(4, 3, 32, 32)

    def changed(*, frozen: bool) -> set[bool]:
        """Which kinds of entries one step changes.

        True for the head's, False for the backbone's.
        """
        before = {key: value.clone() for key, value in model.state_dict().items()}
        optimizer.zero_grad()
        model.train()
        freeze_backbone(model, frozen=frozen)
        model(inputs).square().sum().backward()
        optimizer.step()
        after = model.state_dict()
        return {
            key.startswith("classifier.3.")
            for key in after
            if not torch.equal(before[key], after[key])
        }

    assert changed(frozen=True) == {True}
    assert changed(frozen=False) == {True, False}


def test_freezing_leaves_the_phase_that_the_model_itself_shows() -> None:
    model = build_model(SMALL, 3)
    for training in (True, False):
        model.train(training)
        freeze_backbone(model, frozen=True)
        assert model.training == training
        assert head(model).training == training
