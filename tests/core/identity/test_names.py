import pytest

from acfnet_core.identity.names import check_name, split_address


@pytest.mark.parametrize("name", ["a", "hospital-a", "h2", "a" * 50])
def test_a_plain_name_is_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "A", "2a", "a_b", "a-", "-a", "a--b", "a/b", "../a", "a\n", "ä", "a" * 51],
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        check_name(name)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("fl.example.org:8443", ("fl.example.org", 8443)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_split(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:", ":1", "host:0", "host:65536", "https://host:1", "a b:1"],
)
def test_any_other_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_address(address)
