"""A run that ends by an error: exit code 1, one sentence, what was written stays and goes on."""

import pytest
from training_command import TINY, folder_of, is_one_sentence, read_rows, run_here, without_times

from metairn.intrinsic_attention_ppo import IntrinsicAttentionPPO


@pytest.fixture
def failing_at_iteration_three(monkeypatch):
    """Makes the third training iteration raise; undone by the fixture's own call."""
    train = IntrinsicAttentionPPO.training_step

    def training_step(self):
        if self.training_iteration == 2:
            raise RuntimeError("the disk is on fire\nand so is the second line\n")
        return train(self)

    monkeypatch.setattr(IntrinsicAttentionPPO, "training_step", training_step)
    return monkeypatch.undo


@pytest.mark.parametrize("method", ["ppo", "meta_irn"])
def test_diverged_run_fails_with_one_sentence_and_keeps_what_it_wrote(method, tmp_path):
    outcome = run_here(
        f"method={method}", *TINY, "training.critic_learning_rate=1e30", f"output_root={tmp_path}"
    )
    assert outcome.code == 1
    assert is_one_sentence(outcome.err), outcome.err
    assert "diverged" in outcome.err
    assert str(folder_of(tmp_path)) in outcome.err
    assert read_rows(folder_of(tmp_path))[0]["iteration"] == 0
    assert not (folder_of(tmp_path) / "DONE").exists()


def test_failed_run_names_itself_and_its_error(tmp_path, failing_at_iteration_three):
    outcome = run_here(*TINY, f"output_root={tmp_path}")
    assert outcome.code == 1
    assert is_one_sentence(outcome.err), outcome.err
    for words in ("method=ppo", "length=3", "seed=0", "RuntimeError: the disk is on fire"):
        assert words in outcome.err
    report = folder_of(tmp_path) / "error.txt"
    assert "error.txt" in outcome.err
    assert "training_step" in report.read_text()
    assert "second line" in report.read_text()
    assert outcome.out == ""


def test_failed_run_goes_on_where_it_was_when_the_cause_is_gone(
    tmp_path, failing_at_iteration_three
):
    assert run_here(*TINY, f"output_root={tmp_path / 'failed'}").code == 1
    kept = read_rows(folder_of(tmp_path / "failed"))
    assert [row["iteration"] for row in kept] == [0, 1, 2]
    failing_at_iteration_three()
    assert run_here(*TINY, f"output_root={tmp_path / 'failed'}").code == 0
    assert run_here(*TINY, f"output_root={tmp_path / 'whole'}").code == 0
    assert not (folder_of(tmp_path / "failed") / "error.txt").exists()
    rows = read_rows(folder_of(tmp_path / "failed"))
    assert rows[:3] == kept
    assert without_times(rows) == without_times(read_rows(folder_of(tmp_path / "whole")))


def test_full_error_shows_the_traceback(tmp_path, monkeypatch, failing_at_iteration_three):
    import training_command

    names = [n for n in training_command.SET_BY_THE_COMMAND if n != "HYDRA_FULL_ERROR"]
    monkeypatch.setattr(training_command, "SET_BY_THE_COMMAND", names)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="the disk is on fire") as failure:
        run_here(*TINY, f"output_root={tmp_path}")
    assert isinstance(failure.value.__cause__, RuntimeError)
