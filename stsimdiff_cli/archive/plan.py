"""What is left to do: what is not done, did not fail for good, is not equal to something else, and is in the shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..storage.header import ReadHeader
from ..storage.stores import AnyPath
from .identity import Item, Tell, tell_nobody, with_contents
from .log import DUPLICATE, FAILED, SKIPPED, SUCCESS, Folded, Row, now
from .outputs import done, names_of
from .shards import Shard

#: The first part of the planning, in words.
CHECKING = "items compared with what is there"
#: Processes that may end while they work on an item, before the item counts as what ended them.
DEADLY = 3


@dataclass
class Plan:
    """The items of one start, sorted by what becomes of them. Those of other shards are only counted."""

    todo: list[Item] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)  # of every item, by id, relative to the folder of outputs
    done: int = 0
    failed: list[Row] = field(default_factory=list)  # failed before, and would again
    skipped: int = 0  # are not what was looked for, as was found before
    duplicates: list[tuple[Item, Item]] = field(default_factory=list)  # an item, and the one that it equals
    elsewhere: int = 0
    unended: dict[str, int] = field(default_factory=dict)  # by id: processes that ended while they worked on it
    rows: list[Row] = field(default_factory=list)  # what the log does not know yet

    @property
    def total(self) -> int:
        """The items of this shard."""
        return len(self.todo) + self.done + len(self.failed) + self.skipped + len(self.duplicates)


def make_plan(
    items: Sequence[Item],
    out: AnyPath,
    settings: str,
    log: Folded,
    shard: Shard,
    retry_failed: bool = False,
    tell: Tell = tell_nobody,
) -> Plan:
    """Sort the items. `retry_failed` gives failed items another chance; `tell` is told how far it is."""
    plan, rows = Plan(outputs=names_of(items)), log.rows
    contents = {id_: row.sha256 for id_, row in rows.items() if row.sha256}
    finished: set[str] = set()
    for number, item in enumerate(items, 1):
        tell(CHECKING, number, len(items))
        if not shard.holds(item.id):
            plan.elsewhere += 1
            continue
        row = rows.get(item.id)
        if (there := done(out, item, plan.outputs[item.id], settings)) is not None:
            plan.done += 1
            finished.add(item.id)
            contents[item.id] = there[1].record.grid.source.sha256
            if row is None or row.status != SUCCESS:
                plan.rows.append(recovered(item, settings, *there))
        elif row is not None and row.status == SKIPPED and not retry_failed:
            plan.skipped += 1
        elif row is not None and row.failed and not row.transient and not retry_failed:
            plan.failed.append(row)
        elif log.unended[item.id] >= DEADLY and not retry_failed:
            plan.failed.append(_deadly(item, settings, log.unended[item.id]))
            plan.rows.append(plan.failed[-1])
        else:
            plan.todo.append(item)
            if log.unended[item.id]:
                plan.unended[item.id] = log.unended[item.id]
    _set_duplicates_apart(
        plan, items, contents, lambda item: _is_done(item, plan, out, settings, finished, shard), tell
    )
    for item, equal in plan.duplicates:
        old = rows.get(item.id)
        if old is None or old.status != DUPLICATE or old.of != equal.id:
            plan.rows.append(_duplicate(item, equal, settings))
    return plan


def _is_done(item: Item, plan: Plan, out: AnyPath, settings: str, finished: set[str], shard: Shard) -> bool:
    if shard.holds(item.id):
        return item.id in finished
    return done(out, item, plan.outputs[item.id], settings) is not None


def _set_duplicates_apart(
    plan: Plan, items: Sequence[Item], contents: Mapping[str, str], is_done: Callable[[Item], bool], tell: Tell
) -> None:
    """Move items that equal another one from `todo` to `duplicates`.

    Only files of equal size are read. Of equal ones the one that is done counts, or else the one whose name comes
    first: every shard comes to the same result.
    """
    sizes: dict[tuple[int, float | None, float | None], list[Item]] = {}
    wanted = {(item.size, item.start, item.end) for item in plan.todo if item.size > 0}
    for item in items:
        if (key := (item.size, item.start, item.end)) in wanted:
            sizes.setdefault(key, []).append(item)
    alike = [
        replace(i, sha256=i.sha256 or contents.get(i.id)) for group in sizes.values() if len(group) > 1 for i in group
    ]
    groups: dict[tuple[str, float | None, float | None], list[Item]] = {}
    known: dict[str, Item] = {}
    for item in with_contents(alike, tell):
        known[item.id] = item
        if item.sha256 is not None:
            groups.setdefault((item.sha256, item.start, item.end), []).append(item)
    equals: dict[str, Item] = {}
    for group in groups.values():
        if len(group) > 1:
            first = min(group, key=lambda item: (not is_done(item), item.name, item.id))
            equals |= {item.id: first for item in group if item.id != first.id}
    plan.duplicates = [(known[item.id], equals[item.id]) for item in plan.todo if item.id in equals]
    plan.todo = [known.get(item.id, item) for item in plan.todo if item.id not in equals]


def _duplicate(item: Item, equal: Item, settings: str) -> Row:
    return Row(
        item.id,
        item.name,
        DUPLICATE,
        settings,
        of=equal.id,
        begin=item.start,
        end=item.end,
        size=item.size,
        mtime_ns=item.mtime_ns,
        sha256=item.sha256,
        finished=now(),
    )


def _deadly(item: Item, settings: str, count: int) -> Row:
    """The row of an item that ends the program as a whole, which would never come to an end with it."""
    return Row(
        item.id,
        item.name,
        FAILED,
        settings,
        error_type="LostError",
        error_message=f"The program ended {count} times while it worked on it.",
        transient=False,
        begin=item.start,
        end=item.end,
        size=item.size,
        mtime_ns=item.mtime_ns,
        finished=now(),
    )


def recovered(item: Item, settings: str, output: str, header: ReadHeader) -> Row:
    """The row of an output of which the log knows nothing: it was lost, or its writer was killed before it wrote it."""
    grid = header.record.grid
    index = header.tensors.get("index")
    return Row(
        item.id,
        item.name,
        SUCCESS,
        settings,
        duration=grid.source.seconds,
        tokens=grid.tokens,
        kept=None if index is None else index.shape[0],
        missing=len(grid.source.missing_seconds) or None,
        output=output,
        begin=item.start,
        end=item.end,
        size=item.size,
        mtime_ns=item.mtime_ns,
        sha256=grid.source.sha256,
        finished=now(),
    )
