"""Statements of many rows or ids, as PostgreSQL runs them best: one text for any number, and an array for each value.

An INSERT or UPDATE of many rows becomes one statement that reads its rows from `unnest`, and `IN (...)` becomes
`= ANY(array)`. So the text is short, is prepared once by each connection, and costs one round trip. Source:
https://www.postgresql.org/docs/current/functions-array.html. The verbs' own statements stay those of both databases.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    ARRAY,
    Connection,
    Engine,
    Insert,
    String,
    Update,
    any_,
    bindparam,
    column,
    event,
    func,
    select,
)
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, ClauseElement
from sqlalchemy.sql.selectable import Select, TableValuedAlias
from sqlalchemy.types import NullType, TypeEngine
from sqlalchemy.util import immutabledict

_Rows = Sequence[Mapping[str, Any]]
# By statement: those of the ledger are made once, and a statement that is dropped leaves no entry.
_with_arrays: "WeakKeyDictionary[ClauseElement, Any]" = WeakKeyDictionary()
_of_many: "WeakKeyDictionary[ClauseElement, dict[tuple[str, ...], ClauseElement | None]]" = WeakKeyDictionary()


def use_arrays(engine: Engine) -> None:
    """Rewrite the statements of an engine of PostgreSQL before each is run."""
    event.listen(engine, "before_execute", _rewritten, retval=True)


def _rewritten(
    _conn: Connection, statement: Any, rows: _Rows, parameters: Mapping[str, Any], _options: Any
) -> tuple[Any, _Rows, Mapping[str, Any]]:
    if len(rows) > 1 and isinstance(statement, Insert | Update):
        names = tuple(rows[0])
        known = _of_many.setdefault(statement, {})
        if names not in known:
            known[names] = _for_many(statement, names)
        of_arrays = known[names]
        if of_arrays is not None:
            return of_arrays, [], {name: [row[name] for row in rows] for name in names}
    elif isinstance(statement, Select | Update):
        shorter: Any = _with_arrays.get(statement)
        if shorter is None:
            shorter = _with_arrays[statement] = visitors.replacement_traverse(statement, {}, _as_any)
        return shorter, rows, parameters
    return statement, rows, parameters


def _as_any(element: Any, **_: Any) -> Any:
    """Return `column = ANY(:name)` for `column IN (:name)` with a list that is given with each run, else None."""
    if not isinstance(element, BinaryExpression) or element.operator is not operators.in_op:
        return None
    ids = element.right
    if not isinstance(ids, BindParameter) or not ids.expanding or not ids.required:
        return None
    of_type = element.left.type
    return element.left == any_(bindparam(ids.key, type_=ARRAY(of_type)))


def _for_many(statement: Insert | Update, names: tuple[str, ...]) -> ClauseElement | None:
    """Return the statement that takes an array for each of its parameters, None if it has another form."""
    return _insert(statement, names) if isinstance(statement, Insert) else _update(statement, names)


def _insert(statement: Insert, names: tuple[str, ...]) -> ClauseElement | None:
    columns = statement.table.c
    if statement.select is not None or statement._values or any(name not in columns for name in names):
        return None
    values = _rows_of({name: columns[name].type for name in names}, place=True)
    ordered = select(*(values.c[name] for name in names)).order_by(values.c[_PLACE])
    return statement.from_select(list(names), ordered, include_defaults=False)


def _update(statement: Update, names: tuple[str, ...]) -> ClauseElement | None:
    columns = statement.table.c
    own = {
        element.key: element.type
        for element in visitors.iterate(statement)
        if isinstance(element, BindParameter) and element.required and not element.expanding
    }
    types: dict[str, TypeEngine[Any]] = {}
    for name in names:
        if name not in own and name not in columns:
            return None
        types[name] = own[name] if name in own else columns[name].type
        if isinstance(types[name], NullType):
            return None
    values = _rows_of(types)
    replaced: Any = visitors.replacement_traverse(statement, {}, partial(_from_rows, values))
    replaced._values = immutabledict(replaced._values or {})  # a traversal leaves a plain one, which refuses more
    result: Update = replaced.values({columns[name]: values.c[name] for name in names if name not in own})
    return result


_PLACE = "place_"


def _rows_of(types: Mapping[str, TypeEngine[Any]], *, place: bool = False) -> TableValuedAlias:
    """Return the rows that arrays of these types hold, an array for each column; with `place`, their numbers, too."""
    arrays = (bindparam(name, type_=ARRAY(_unbounded(type_))) for name, type_ in types.items())
    columns = [column(name, type_) for name, type_ in types.items()]
    numbered = {"with_ordinality": _PLACE} if place else {}
    return func.unnest(*arrays).table_valued(*columns, **numbered).render_derived(name="given")


def _unbounded(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type without its length: a text that is too long is refused by its column, and not cut by a cast."""
    return String() if type(type_) is String else type_


def _from_rows(values: TableValuedAlias, element: Any, **_: Any) -> Any:
    """Return the column of `values` in place of a parameter of that name, else None."""
    if isinstance(element, BindParameter) and element.required and element.key in values.c:
        return values.c[element.key]
    return None
