"""The page is in the navigation, and opens with the sidebar."""

from pathlib import Path

from streamlit.testing.v1 import AppTest


def test_it_opens() -> None:
    page = AppTest.from_file(Path("app.py").absolute(), default_timeout=120)
    page.switch_page("pages/heaviest.py")
    page.query_params["model"] = "lenet-300-100"
    page.run()
    assert not page.exception and not page.error
    assert [title.value for title in page.title] == ["Heaviest layers"]
    (table,) = page.dataframe
    assert list(table.value["Layer"]) == ["fc1.weight", "fc2.weight", "fc3.weight"]
    assert list(table.value["Parameters"]) == [235200, 30000, 1000]
    assert page.selectbox(key="control_model").value == "lenet-300-100"
