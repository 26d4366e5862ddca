from trainer.rollouts.api_config import initialize_api_config


def test_without_arguments_it_is_the_call_of_the_reference():
    """The defaults are the reference's fields."""
    assert initialize_api_config() == {
        "system_message": "You are a helpful assistant.",
        "temperature": 0,
        "top_p": 1,
        "seed": 42,
        "n": 1,
    }


def test_a_partial_config_is_merged_over_the_defaults():
    """One field may be given alone, any field may be added, and None removes one."""
    config = initialize_api_config({"temperature": 0.5, "seed": None, "min_p": 0.1})
    assert config == {
        "system_message": "You are a helpful assistant.",
        "temperature": 0.5,
        "top_p": 1,
        "n": 1,
        "min_p": 0.1,
    }


def test_configs_do_not_share_state():
    """Changing one config leaves the next one alone."""
    initialize_api_config()["temperature"] = 1
    assert initialize_api_config()["temperature"] == 0
