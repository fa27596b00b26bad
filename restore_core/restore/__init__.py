"""A restore: plan (pure) > fetch > decode > verify > write > publish. `run` is the order, `pipeline` the fast path."""
