"""Order: what takes long comes last, so that small mistakes are seen at once."""

LAST = "test_reproduce.py"


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: (item.path.name == LAST, item.get_closest_marker("slow") is not None))
