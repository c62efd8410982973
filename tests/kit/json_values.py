"""Values as a hostile JSON-RPC node could send them."""

from hypothesis import strategies as st

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["0x", "0x0", "0X1F", "0x" + "00" * 20, "0x" + "11" * 32, "0x_1", "0x 1", "latest"])
)
MEMBERS = ["jsonrpc", "id", "result", "error", "code", "message", "number", "hash", "parentHash", "topics", "address"]
MEMBERS += ["data", "blockNumber", "blockHash", "transactionHash", "logIndex", "removed", "status"]
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=5), inner | st.just("2.0"), max_size=8)
    ),
    max_leaves=20,
)
