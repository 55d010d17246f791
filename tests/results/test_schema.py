"""The declared schema: dd.results.schema."""

from __future__ import annotations

from dd.results import runs_schema


def test_schema_has_the_contract_columns() -> None:
    contract = [
        "run_id", "name", "status", "error", "model", "width", "parameters", "data", "n_train", "n_test",
        "label_noise", "data_seed", "init", "init_scale", "normalization", "optimizer", "lr", "lr_unit",
        "lr_absolute", "batch_size", "epochs", "steps", "seed", "dtype", "train_loss", "train_error",
        "test_loss", "test_error", "steps_done", "weight_norm", "gradient_norm", "feature_condition",
        "feature_rank", "feature_sigma_max", "feature_sigma_min", "feature_condition_init",
        "feature_rank_init", "feature_sigma_max_init", "feature_sigma_min_init", "hessian_condition",
        "preconditioned_condition", "trained_features", "trainer", "device", "torch_version", "git_commit",
        "seconds", "finished_at",
    ]  # fmt: skip
    assert set(contract) <= set(runs_schema().names)
    assert len(set(runs_schema().names)) == len(runs_schema().names)
