"""One-to-many relationships made over the API: the lookup, its property names, and what deleting the parent does (docs: webapi/create-update-entity-relationships-using-web-api.md, webapi/web-api-navigation-properties.md, data-service-errors.md)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from definition_kit import CRM, column, made, refusal, relationship, table

ID = "11111111-2222-3333-4444-555555555555"
BOTH = ("EntityDefinitions(LogicalName='new_author')", "EntityDefinitions(LogicalName='new_book')")


@pytest.fixture(autouse=True)
async def tables(api: httpx.AsyncClient) -> None:
    await made(api, "EntityDefinitions", table("new_Author"))
    await made(api, "EntityDefinitions", table("new_Book"))


def wrote(**more: Any) -> dict[str, Any]:
    return relationship("new_author_books", "new_author", "new_book", "new_AuthorId", **more)


async def test_a_lookup_can_be_set_and_followed(api: httpx.AsyncClient) -> None:
    """The lookup's schema name is the property on the child, the relationship's that on the parent."""
    where = await made(api, "RelationshipDefinitions", wrote())
    await api.post("new_authors", json={"new_authorid": ID, "new_name": "Austen"})
    bound = {"new_name": "Emma", "new_AuthorId@odata.bind": f"/new_authors({ID})"}
    assert (await api.post("new_books", json=bound)).status_code == 204
    found = (await api.get("new_books?$expand=new_AuthorId($select=new_name)&$select=_new_authorid_value")).json()
    assert found["value"][0]["new_AuthorId"]["new_name"] == "Austen"
    written = (await api.get(f"new_authors({ID})/new_author_books?$select=new_name")).json()["value"]
    assert [each["new_name"] for each in written] == ["Emma"]
    told = (await api.get(where)).json()
    assert told["SchemaName"] == told["ReferencedEntityNavigationPropertyName"] == "new_author_books"
    assert (told["ReferencingAttribute"], told["ReferencedAttribute"]) == ("new_authorid", "new_authorid")
    assert told["CascadeConfiguration"]["Delete"] == "RemoveLink"


async def test_names_of_properties_can_be_chosen(api: httpx.AsyncClient) -> None:
    """The names of both navigation properties may be given; the relationship's own stays apart from them."""
    names = {"ReferencingEntityNavigationPropertyName": "author", "ReferencedEntityNavigationPropertyName": "works"}
    await made(api, "RelationshipDefinitions", wrote(**names))
    await api.post("new_authors", json={"new_authorid": ID})
    assert (await api.post("new_books", json={"author@odata.bind": f"/new_authors({ID})"})).status_code == 204
    assert len((await api.get(f"new_authors({ID})/works")).json()["value"]) == 1
    answer = await api.post("new_books", json={"new_AuthorId@odata.bind": f"/new_authors({ID})"})
    assert refusal(answer) == (400, "0x80048d19")
    told = (await api.get(f"{BOTH[1]}/ManyToOneRelationships?$filter=SchemaName eq 'new_author_books'")).json()["value"]
    assert told[0]["ReferencingEntityNavigationPropertyName"] == "author"
    mirrored = (await api.get(f"{BOTH[0]}/OneToManyRelationships?$filter=SchemaName eq 'new_author_books'")).json()
    assert mirrored["value"] == told
    assert (await api.get(f"{BOTH[0]}/ManyToManyRelationships")).json()["value"] == []


async def test_relationships_are_found_by_name_and_kind(api: httpx.AsyncClient) -> None:
    """The list of all relationships can be filtered, also by the enumeration of their kinds."""
    where = await made(api, "RelationshipDefinitions", wrote())
    by_name = (await api.get("RelationshipDefinitions?$filter=SchemaName eq 'new_author_books'")).json()["value"]
    kind = f"RelationshipType eq {CRM}RelationshipType'OneToManyRelationship' and ReferencingEntity eq 'new_book'"
    by_kind = (await api.get(f"RelationshipDefinitions?$filter={kind}&$select=SchemaName,MetadataId")).json()["value"]
    assert by_name[0]["MetadataId"] in where
    assert "new_author_books" in {each["SchemaName"] for each in by_kind}
    keyed = "RelationshipDefinitions(SchemaName='new_author_books')"
    assert (await api.get(f"{keyed}/{CRM}OneToManyRelationshipMetadata")).json()["MetadataId"] in where


@pytest.mark.parametrize(
    ("delete", "status", "left"), [("RemoveLink", 204, [None]), ("Cascade", 204, []), ("Restrict", 400, [ID])]
)
async def test_what_deleting_the_parent_does(api: httpx.AsyncClient, delete: str, status: int, left: list[Any]) -> None:
    """The child's row loses the link, goes too, or keeps the parent there, as the cascade says."""
    await made(api, "RelationshipDefinitions", wrote(CascadeConfiguration={"Delete": delete}))
    await api.post("new_authors", json={"new_authorid": ID})
    await api.post("new_books", json={"new_AuthorId@odata.bind": f"/new_authors({ID})"})
    assert (await api.delete(f"new_authors({ID})")).status_code == status
    rows = (await api.get("new_books?$select=_new_authorid_value")).json()["value"]
    assert [row["_new_authorid_value"] for row in rows] == left


async def test_a_relationship_is_removed_with_its_lookup(api: httpx.AsyncClient) -> None:
    """Removing a relationship removes the lookup and its values; it may be made again."""
    where = await made(api, "RelationshipDefinitions", wrote())
    assert (await api.delete(where, headers={"If-Match": "*"})).status_code == 204
    assert (await api.get("new_books?$select=_new_authorid_value")).status_code == 400
    assert (await api.get(where)).status_code == 404
    await made(api, "RelationshipDefinitions", wrote())


async def test_what_others_refer_to_stays(api: httpx.AsyncClient) -> None:
    """A table that another's lookup leads to cannot be removed; nor can a relationship that was always there."""
    await made(api, "RelationshipDefinitions", wrote())
    assert refusal(await api.delete(BOTH[0])) == (400, "0x8004F01F")
    assert (await api.delete(BOTH[1])).status_code == 204
    assert (await api.delete(BOTH[0])).status_code == 204
    shipped = (await api.get("RelationshipDefinitions?$filter=ReferencingAttribute eq 'parentcustomerid'")).json()
    assert (await api.delete(f"RelationshipDefinitions({shipped['value'][0]['MetadataId']})")).status_code == 400


async def test_a_table_may_refer_to_itself(api: httpx.AsyncClient) -> None:
    """A relationship of a table with itself needs two property names."""
    same = relationship("new_sequel", "new_book", "new_book", "new_BeforeId")
    odd = {"ReferencingEntityNavigationPropertyName": "x", "ReferencedEntityNavigationPropertyName": "x"}
    assert refusal(await api.post("RelationshipDefinitions", json=same | odd)) == (400, "0x80072551")
    await made(api, "RelationshipDefinitions", same)
    await api.post("new_books", json={"new_bookid": ID})
    assert (await api.post("new_books", json={"new_BeforeId@odata.bind": f"/new_books({ID})"})).status_code == 204
    assert (await api.delete(BOTH[1])).status_code == 204


async def test_names_are_unique(api: httpx.AsyncClient) -> None:
    """A relationship's name, its lookup's and its properties' are each there once."""
    await made(api, "RelationshipDefinitions", wrote())
    other = relationship("new_other", "new_author", "new_book", "new_OtherId")
    again = wrote(Lookup=other["Lookup"])
    assert refusal(await api.post("RelationshipDefinitions", json=again)) == (400, "0x8004432B")
    same_column = other | {"Lookup": wrote()["Lookup"], "ReferencingEntityNavigationPropertyName": "new_other"}
    assert refusal(await api.post("RelationshipDefinitions", json=same_column)) == (400, "0x80047013")
    same_name = other | {"ReferencingEntityNavigationPropertyName": "new_AuthorId"}
    assert refusal(await api.post("RelationshipDefinitions", json=same_name)) == (400, "0x80072551")
    same_list = other | {"ReferencedEntityNavigationPropertyName": "new_author_books"}
    assert refusal(await api.post("RelationshipDefinitions", json=same_list)) == (400, "0x80072551")
    await made(api, f"{BOTH[1]}/Attributes", column("String", "new_Third"))
    hidden = other | {"ReferencingEntityNavigationPropertyName": "new_third"}
    assert refusal(await api.post("RelationshipDefinitions", json=hidden)) == (400, "0x80072551")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"ReferencedEntity": "nothing"}, 404),
        ({"ReferencingEntity": ""}, 400),
        ({"SchemaName": "withoutprefix"}, 400),
        ({"SchemaName": None}, 400),
        ({"Lookup": None}, 400),
        ({"Lookup": {"@odata.type": "x"}}, 400),
        ({"Lookup": []}, 400),
        ({"ReferencingEntityNavigationPropertyName": "a b"}, 400),
        ({"CascadeConfiguration": {"Delete": "Never"}}, 400),
        ({"CascadeConfiguration": {"Assign": 1}}, 400),
        ({"@odata.type": "x"}, 400),
        ({"@odata.type": f"{CRM}ManyToManyRelationshipMetadata"}, 501),
        ({"IsHierarchical": True}, 501),
        ({"Nonsense": 1}, 501),
    ],
)
async def test_wrong_relationships(api: httpx.AsyncClient, change: dict[str, Any], status: int) -> None:
    """A relationship that is wrong, or not emulated, is refused."""
    assert (await api.post("RelationshipDefinitions", json=wrote(**change))).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "RelationshipDefinitions", 405),
        ("PUT", "RelationshipDefinitions(SchemaName='new_author_books')", 501),
        ("PATCH", "RelationshipDefinitions(SchemaName='new_author_books')", 405),
        ("DELETE", f"RelationshipDefinitions(SchemaName='new_author_books')/{CRM}x/y", 404),
        ("DELETE", "RelationshipDefinitions(SchemaName='nothing')", 404),
        ("GET", "RelationshipDefinitions(1)", 400),
    ],
)
async def test_paths_that_lead_nowhere(api: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    """Methods that relationships do not have are 405, changing them is 501, unknown names are 404."""
    await made(api, "RelationshipDefinitions", wrote())
    assert (await api.request(method, path, json={})).status_code == status
