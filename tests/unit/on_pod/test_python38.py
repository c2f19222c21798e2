"""The pod's program needs no more than Python 3.8, which some pods still have."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pi.on_pod

FOLDER = Path(pi.on_pod.__file__).parent

GENERIC_SINCE_39 = {
    "list",
    "dict",
    "set",
    "frozenset",
    "tuple",
    "type",
    "deque",
    "defaultdict",
    "Queue",
    "Popen",
    "Pattern",
}
"""What Python 3.8 cannot subscript at run time; annotations are never evaluated there."""


class WithoutAnnotations(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            argument.annotation = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return ast.Expr(node.value or ast.Constant(None))


@pytest.mark.parametrize("module", sorted(path.stem for path in FOLDER.glob("[a-z]*.py")))
def test_a_module_runs_on_python_3_8(module: str) -> None:
    tree = ast.parse((FOLDER / f"{module}.py").read_text("utf-8"), feature_version=(3, 8))
    assert "annotations" in ast.dump(tree.body[1]), "from __future__ import annotations comes first"
    for node in ast.walk(WithoutAnnotations().visit(tree)):
        if isinstance(node, ast.Subscript):
            name = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            assert name not in GENERIC_SINCE_39, ast.unparse(node)
