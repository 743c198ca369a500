"""What every policy server and every client must do, as base classes: inherit them, give a fixture, and pass.

They speak to a live port with the generated stubs alone, so they hold for programs in any language.
"""

import pytest

pytest.register_assert_rewrite(*(f"tests.conformance.{name}" for name in ("client", "leases", "policy_server", "wire")))
