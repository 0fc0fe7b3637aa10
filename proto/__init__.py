"""The tunnel protocol between hub and agent: a sans-I/O core, and a thin asyncio shell in `proto.aio`.

The distribution proto-plus installs a top-level package of the same name; `proto.distribution.check()`
tells the two apart by the mark below (docs/adr).
"""

RIATA = True
