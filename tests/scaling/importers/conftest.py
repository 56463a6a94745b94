"""Makes `import_cases` importable: pytest's importlib mode does not put a test's folder on the path."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
