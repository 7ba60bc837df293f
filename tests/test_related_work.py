"""Table 1 against the facts of the paper."""

from dataclasses import asdict

from zcipc.lab.verdicts import related_work


def test_the_table_has_the_papers_eleven_rows_in_order() -> None:
    assert related_work.table()["reference"].tolist() == [
        "Zhang et al. 2021",
        "Kaufmann et al. 2019",
        "Stamler et al. 2022",
        "Narayanan et al. 2020",
        "Zhou et al. 2023",
        "Mi et al. 2019",
        "Raghavan et al. 2023",
        "Marty et al. 2019",
        "Wolnikowski et al. 2021",
        "Park et al. 2019",
        "Penna 2021",
    ]


def test_its_columns_are_typed() -> None:
    table = related_work.table()
    assert [*table] == ["system", "reference", "year", *related_work.PROPERTIES, "headline"]
    assert all(table[name].dtype == bool for name in related_work.PROPERTIES)
    assert all(row.reference.endswith(str(row.year)) for row in table.itertuples())
    assert table["headline"].str.len().min() > 0


def test_each_property_marks_the_papers_systems() -> None:
    table = related_work.table().set_index("system")
    assert {name: set(table.index[table[name]]) for name in related_work.PROPERTIES} == {
        "zero_copy": set(table.index) - {"TAS", "Userspace Bypass"},
        "synchronous": {"RedLeaf", "SkyBridge", "Snap", "Nanvix"},
        "serialization": {"zIO", "RedLeaf", "Cornflakes", "Zerializer", "Nanvix"},
        "shared_memory": {"TAS", "zIO", "Cornflakes", "Nanvix"},
        "kernel_bypass": {"Demikernel", "zIO", "SkyBridge", "Cornflakes", "Nanvix"},
        "reduced_overhead": {"Userspace Bypass", "SkyBridge"},
    }


def test_the_proposal_claims_everything_but_reduced_overhead() -> None:
    claimed = asdict(related_work.PROPOSAL)
    assert [name for name, mark in claimed.items() if not mark] == ["reduced_overhead"]
    assert [*claimed] == [*related_work.PROPERTIES]


def test_the_last_row_has_the_proposals_marks_as_the_remarks_say() -> None:
    assert related_work.SYSTEMS[-1].properties == related_work.PROPOSAL
