"""What a node agent sees of its node without a right."""

import platform

from agent.nodefacts import NodeView
from proto.facts import from_ext, to_ext


def test_kernel_and_boot_are_the_nodes(tmp_path):
    (tmp_path / "boot_id").write_text("1b4e28ba-2fa1-11d2-883f-0016d3cca427\n")
    facts = NodeView("10.0.0.5", lambda: True, tmp_path / "boot_id").facts()
    assert facts.boot_id == "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
    assert (facts.kernel, facts.architecture) == (platform.release(), platform.machine())
    assert (facts.addresses, facts.roles) == ("10.0.0.5", "control-plane")
    assert from_ext(to_ext(facts)) == facts


def test_what_is_not_known_is_empty(tmp_path):
    facts = NodeView("", lambda: False, tmp_path / "none").facts()
    assert (facts.boot_id, facts.addresses, facts.roles) == ("", "", "")
