"""A second name for the modules of a package: the same module objects, so classes are the same too.

In: the second name, the package's own name and its folder. Out: a finder for `sys.meta_path`. Nothing is loaded twice.
A second copy would hold other classes, and `isinstance` would fail between the two.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType


@dataclass(frozen=True)
class SecondName(MetaPathFinder, InspectLoader):
    """Finds `second_name.x` as the module `name.x`.

    Another project may have a package or a module called `name` too. Its folder is then searched first, and `folder`
    after it, whatever the order of `sys.path`.

    Args:
        second_name: dotted name of a package that is there and has no modules of its own.
        name: of the package whose modules are found.
        folder: where these modules lie.
    """

    second_name: str
    name: str
    folder: Path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of a module under its second name; None for other modules, and where there is none.

        Raises:
            ImportError: if another project has a module of this name.
        """
        if not fullname.startswith(f"{self.second_name}."):
            return None
        self._let_the_package_find_the_folder()
        own = importlib.util.find_spec(self._own_name(fullname))
        if own is None:
            return None
        places = [own.origin] if own.origin else list(own.submodule_search_locations or ())
        if not any(Path(place).resolve().is_relative_to(self.folder.resolve()) for place in places):
            raise ImportError(
                f"{own.name!r} is {places}, which is not in {str(self.folder)!r}: another project has a module of this "
                "name. Give this project an environment of its own, or rename the other module.",
                name=own.name,
            )
        is_package = own.submodule_search_locations is not None
        return ModuleSpec(fullname, self, origin=own.origin, is_package=is_package)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself, imported under its own name if it was not yet."""
        module = importlib.import_module(self._own_name(spec.name))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is executed again. The import system has set `__spec__`: the module gets its own back."""
        if module.__spec__ is not None and module.__spec__.loader is self:
            module.__spec__ = module.__spec__.loader_state

    def get_code(self, fullname: str) -> CodeType | None:
        """The code of a module, for `python -m`."""
        own = importlib.util.find_spec(self._own_name(fullname))
        return own.loader.get_code(own.name) if own and isinstance(own.loader, InspectLoader) else None

    def get_source(self, fullname: str) -> str | None:
        """The source of a module, for tracebacks and debuggers."""
        own = importlib.util.find_spec(self._own_name(fullname))
        return own.loader.get_source(own.name) if own and isinstance(own.loader, InspectLoader) else None

    def _own_name(self, fullname: str) -> str:
        return self.name + fullname.removeprefix(self.second_name)

    def _let_the_package_find_the_folder(self) -> None:
        """Whoever owns the name `name`, modules are also looked for in `folder`."""
        package = importlib.import_module(self.name)
        path = list(getattr(package, "__path__", ()))
        if str(self.folder) not in path:
            package.__path__ = [*path, str(self.folder)]
