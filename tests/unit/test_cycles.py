"""No files need each other, not even for the names of their types."""

from graphlib import TopologicalSorter

import grimp


def test_imports_lead_to_no_circle() -> None:
    graph = grimp.build_graph("watcher", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 400
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle
