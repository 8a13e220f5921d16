"""Names of hosts and users, and addresses: what is hidden, what stays, what stays the same."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtop.record.names import Names, local_users

NAMES = Names(["gpubox17"], ["alicia", "bo", "root", "vllm", "max"], key=b"k")


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.sampled_from(["{}", "({})", "to {}:", "a={},", "{}."]))
def test_every_address_but_this_hosts_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address, around: str) -> None:
    shown = NAMES.hide(around.format(address))
    if address.is_loopback or address.is_unspecified or str(address) == "255.255.255.255":
        assert shown == around.format(address)
    else:
        assert re.fullmatch(re.escape(around).replace(r"\{\}", r"IP-[0-9a-f]{4}"), shown), shown


def test_a_pseudonym_is_the_same_for_the_same_and_needs_the_hosts_key() -> None:
    one, other = NAMES.address("10.0.0.5"), NAMES.address("10.0.0.6")
    assert one == NAMES.address("10.0.0.5") != other
    assert NAMES.address("2001:db8::1") == NAMES.address("2001:0db8:0:0::1")
    assert Names(key=b"another").address("10.0.0.5") != one
    assert Names().address("10.0.0.5") == Names().address("10.0.0.5")
    assert NAMES.hide(NAMES.hide("at 10.0.0.5:8000")) == f"at {one}:8000"


@pytest.mark.parametrize(
    "text",
    [
        "vLLM 0.25.1", "driver 570.86.10", "1.2.3.4.5", "12:34:56", "00000000:1B:00.0", "aa:bb:cc:dd:ee:ff",
        "std::string", "127.0.0.1:8000", "[::1]:8000", "0.0.0.0", "999.1.1.1", "--max-model-len 4096", "max 3 tokens",
        "vllm serve", "root", "embodied", "malicia", "alicias", "--alicia", "/models/bo/x", "12.8.4.1a",
    ],
)  # fmt: skip
def test_what_names_nobody_stays(text: str) -> None:
    assert NAMES.hide(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("user alicia", "user USER"),
        ("/data/alicia/m", "/data/USER/m"),
        ("app-alicia-vllm.scope", "app-USER-vllm.scope"),
        ("alicia@gpubox17: x", "USER@HOST: x"),
        ("docker/alicia_vllm", "docker/USER_vllm"),
        ("user=bo", "user=USER"),
        ("bo@x", "USER@x"),
        ("~bo/m", "~USER/m"),
        ("/home/bo/m", "/home/USER/m"),
        ("user max", "user USER"),
        ("gpubox17.lab.example.org", "HOST"),
    ],
)
def test_who_is_named_is_hidden(text: str, shown: str) -> None:
    assert NAMES.hide(text) == shown


def test_the_people_of_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "carla")
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0::/root:/bin/sh\nalicia:x:1001:1::/home/alicia:/bin/sh\nnobody:x:65534:::\nbroken\n")
    found = local_users(passwd)
    assert {"carla", "alicia"} <= set(found) and "nobody" not in found
    assert "carla" in local_users(tmp_path / "none")
