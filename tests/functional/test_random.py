import pytest
import torch

from lightning_foresight.functional._random import devices_in_use, forked_random_state

CPU = torch.device("cpu")


def test_states_are_restored_after_an_error_too():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), forked_random_state([CPU], seed=3):
        torch.rand(3)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_fixes_what_is_drawn_inside():
    draws = []
    for _ in range(2):
        torch.rand(5)
        with forked_random_state([], seed=3):
            draws.append(torch.rand(4))
    assert torch.equal(*draws)


def test_without_a_seed_the_state_goes_on_from_where_it_was():
    torch.manual_seed(7)
    with forked_random_state([]):
        inside = torch.rand(4)
    assert torch.equal(inside, torch.rand(4))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="for machines without an accelerator")
def test_no_accelerator_is_in_use_where_there_is_none():
    assert devices_in_use() == []
