"""SKOS in three forms gives one tree; nothing is fetched, opened or expanded, whatever a file says."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qdcgen.errors import RecipeError
from qdcgen.taxonomy_export import rendered
from qdcgen.taxonomy_files import read

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real taxonomies are not here ({DATA})")

TURTLE = """
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix : <http://example.org/> .
:scheme a skos:ConceptScheme ; skos:prefLabel "Pets"@en ; skos:hasTopConcept :animal .
:animal a skos:Concept ; skos:prefLabel "Tier"@de, "animal"@en-GB ; skos:narrower :cat ; skos:definition "it lives" .
:dog a skos:Concept ; skos:prefLabel "dog" ; skos:broader :animal, :pet .
:cat a skos:Concept ; skos:prefLabel "Katze"@de ; skos:broader <http://elsewhere.org/x>, :animal ; owl:deprecated true .
:pet a skos:Concept ; skos:prefLabel "pet"@en .
"""
XML = """<?xml version="1.0" encoding="UTF-8"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:skos="http://www.w3.org/2004/02/skos/core#"
    xmlns:owl="http://www.w3.org/2002/07/owl#">
<skos:ConceptScheme rdf:about="http://example.org/scheme"/>
<rdf:Description rdf:about="http://example.org/animal">
  <rdf:type rdf:resource="http://www.w3.org/2004/02/skos/core#Concept"/>
  <skos:prefLabel xml:lang="de">Tier</skos:prefLabel><skos:prefLabel xml:lang="en-GB">animal</skos:prefLabel>
  <skos:narrower rdf:resource="http://example.org/cat"/><skos:definition>it lives</skos:definition>
</rdf:Description>
<skos:Concept rdf:about="http://example.org/dog"><skos:prefLabel>dog</skos:prefLabel>
  <skos:broader rdf:resource="http://example.org/animal"/><skos:broader rdf:resource="http://example.org/pet"/>
</skos:Concept>
<skos:Concept rdf:about="http://example.org/cat"><skos:prefLabel xml:lang="de">Katze</skos:prefLabel>
  <skos:broader rdf:resource="http://elsewhere.org/x"/><skos:broader rdf:resource="http://example.org/animal"/>
  <owl:deprecated>true</owl:deprecated>
</skos:Concept>
<skos:Concept rdf:about="http://example.org/pet"><skos:prefLabel xml:lang="en">pet</skos:prefLabel></skos:Concept>
</rdf:RDF>"""
LINKED = {
    "@context": {
        "skos": "http://www.w3.org/2004/02/skos/core#",
        "ex": "http://example.org/",
        "name": {"@id": "skos:prefLabel", "@container": "@language"},
        "owl": "http://www.w3.org/2002/07/owl#",
    },
    "@graph": [
        {"@id": "ex:scheme", "@type": "skos:ConceptScheme"},
        {
            "@id": "ex:animal",
            "@type": "skos:Concept",
            "name": {"de": "Tier", "en-GB": "animal"},
            "skos:narrower": {"@id": "ex:cat"},
            "skos:definition": "it lives",
        },
        {
            "@id": "http://example.org/dog",
            "@type": ["skos:Concept"],
            "skos:prefLabel": {"@value": "dog"},
            "skos:broader": [{"@id": "ex:animal"}, {"@id": "ex:pet"}],
        },
        {
            "@id": "ex:cat",
            "@type": "skos:Concept",
            "skos:prefLabel": {"@value": "Katze", "@language": "de"},
            "skos:broader": [{"@id": "http://elsewhere.org/x"}, {"@id": "ex:animal"}],
            "owl:deprecated": True,
        },
        {"@id": "ex:pet", "@type": "skos:Concept", "name": {"en": "pet"}},
    ],
}
FORMS = {"ttl": TURTLE, "rdf": XML, "jsonld": json.dumps(LINKED)}


def file(folder, text, ending):
    path = folder / f"t.{ending}"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder, text, ending):
    with pytest.raises(RecipeError) as caught:
        read("t", file(folder, text, ending))
    return str(caught.value)


@pytest.mark.parametrize("ending", FORMS)
def test_labels_parents_and_retirement_are_read_alike_in_every_form(tmp_path, ending):
    notes = []
    tree = read("t", file(tmp_path, FORMS[ending], ending), notes=notes)
    base = "http://example.org/"
    found = [(node.id.removeprefix(base), node.label, (node.parent or "").removeprefix(base)) for node in tree.nodes]
    assert found == [("animal", "animal", ""), ("dog", "dog", "animal"), ("cat", "Katze", "animal"), ("pet", "pet", "")]
    assert tree.nodes[0].text == "it lives"
    told = " ".join(notes)
    assert "1 concept is retired; exclude: {retired: 'True'} leaves it out" in told
    assert "1 broader concepts lie outside" in told
    assert "1 concepts have no English label; theirs is in 'de'" in told
    assert "1 rows name several parents" in told
    left = read("t", tmp_path / f"t.{ending}", exclude={"retired": "True"})
    assert [node.label for node in left.nodes] == ["animal", "dog", "pet"]


def test_notations_are_the_ids_where_every_concept_has_its_own(tmp_path):
    text = TURTLE.replace(":dog a skos:Concept ;", ':dog a skos:Concept ; skos:notation "01" ;')
    notes = []
    assert read("t", file(tmp_path, text, "ttl"), notes=notes).nodes[1].id == "http://example.org/dog"
    assert "some concepts have no notation" in " ".join(notes)
    every = "".join(
        f"<http://e/{n}> a <http://www.w3.org/2004/02/skos/core#Concept> ; "
        f'<http://www.w3.org/2004/02/skos/core#notation> "0{n}"^^<http://www.w3.org/2001/XMLSchema#integer> .\n'
        for n in range(3)
    )
    assert [node.id for node in read("t", file(tmp_path, every, "ttl")).nodes] == ["00", "01", "02"]


def test_concepts_nested_in_others_are_found(tmp_path):
    nested = {
        "@context": "https://context.invalid/never-fetched.jsonld",
        "@id": "urn:s",
        "@type": "skos:ConceptScheme",
        "hasTopConcept": [
            {
                "@id": "urn:a",
                "@type": "skos:Concept",
                "prefLabel": "a",
                "narrower": [{"@id": "urn:b", "@type": "skos:Concept", "prefLabel": "b"}],
            }
        ],
    }
    tree = read("t", file(tmp_path, json.dumps(nested), "jsonld"))
    assert [(node.id, node.parent) for node in tree.nodes] == [("urn:a", None), ("urn:b", "urn:a")]


def test_concepts_without_an_address_have_the_same_id_each_time(tmp_path):
    head = "@prefix skos: <http://www.w3.org/2004/02/skos/core#> .\n"
    path = file(
        tmp_path, head + '[] a skos:Concept ; skos:prefLabel "a" . [] a skos:Concept ; skos:prefLabel "b" .', "ttl"
    )
    assert [(node.id, node.label) for node in read("t", path).nodes] == [("_:1", "a"), ("_:2", "b")]


def test_a_cycle_an_orphan_and_a_file_without_concepts_are_told(tmp_path):
    head = "@prefix skos: <http://www.w3.org/2004/02/skos/core#> .\n"
    ring = "<urn:a> a skos:Concept ; skos:broader <urn:b> . <urn:b> a skos:Concept ; skos:broader <urn:a> ."
    assert "a cycle of parents: 'urn:a'" in refusal(tmp_path, head + ring, "ttl")
    orphan = "<urn:a> a skos:Concept ; skos:broader <urn:gone> ."
    assert "parent 'urn:gone' of 'urn:a' is no row's id" in refusal(tmp_path, head + orphan, "ttl")
    assert "describes no skos:Concept" in refusal(tmp_path, "<urn:a> <urn:b> <urn:c> .", "ttl")


def test_broken_files_name_the_place(tmp_path):
    assert "t.ttl:2: not valid Turtle" in refusal(tmp_path, "<urn:a> <urn:b> <urn:c> .\n<urn:a> ;;;", "ttl")
    assert "t.rdf:2:" in refusal(tmp_path, "<a>\n<b></a>", "rdf")
    assert "not well-formed XML" in refusal(tmp_path, "<a>\n<b></a>", "rdf")
    latin = XML.replace("UTF-8", "ISO-8859-1")
    assert "XML that says it is 'ISO-8859-1'; save the file as UTF-8" in refusal(tmp_path, latin, "rdf")
    wrong = tmp_path / "t.ttl"
    wrong.write_text(TURTLE)
    with pytest.raises(RecipeError, match="SKOS has no columns to choose; take out id:"):
        read("t", wrong, id="notation")


NAMES = ["a", *(f"a{number}" for number in range(1, 10))]
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {name} "{10 * f"&{below};"}">' for below, name in itertools.pairwise(NAMES))
    + "]><x>&a9;</x>"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "declares the entity 'a'; entities are not expanded"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>', "declares the entity 'a'"),
        ('<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1:9/x"> %a;]><x/>', "declares the entity 'a'"),
        ('<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><x/>', "points to a document type elsewhere"),
    ],
)
def test_xml_that_expands_or_points_elsewhere_is_refused_at_once(tmp_path, text, words):
    start = time.process_time()
    assert words in refusal(tmp_path, text, "rdf")
    assert time.process_time() - start < 2


def test_no_reader_opens_a_socket_or_another_file(tmp_path):
    # A hook of the interpreter itself sees every open and every connection, whoever makes it.
    texts = {
        "ttl": TURTLE + "<http://127.0.0.1:9/a.ttl> <http://www.w3.org/2002/07/owl#imports> <file:///etc/hostname> .\n"
        "@base <http://127.0.0.1:9/> .\n<x> a <y> .\n",
        "rdf": XML.replace(
            "<skos:ConceptScheme", '<rdf:Description rdf:about="file:///etc/hostname"/><skos:ConceptScheme'
        ),
        "jsonld": json.dumps({**LINKED, "@context": ["http://127.0.0.1:9/c.jsonld", LINKED["@context"]]}),
    }
    for ending, text in texts.items():
        path = file(tmp_path, text, ending)
        probe = f"""
import sys
from pathlib import Path
from qdcgen import taxonomy_files, taxonomy_skos
import rdflib, rdflib.plugins.parsers.notation3, rdflib.plugins.parsers.rdfxml, rdflib.plugins.stores.memory
import xml.sax.expatreader, encodings.idna
seen = []
def hook(event, arguments):
    if event.startswith("socket.") or event in ("urllib.Request", "os.system", "subprocess.Popen"):
        seen.append((event, str(arguments)))
    if event == "open" and isinstance(arguments[0], str) and not arguments[0].endswith((".py", ".pyc")):
        seen.append((event, arguments[0]))
sys.addaudithook(hook)
taxonomy_files.read("t", Path({str(path)!r}))
print([one for one in seen if one != ("open", {str(path)!r})])
"""
        ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
        assert ran.stdout.strip() == "[]", ran.stdout + ran.stderr


def test_what_a_file_says_never_reaches_the_log_unescaped(tmp_path, capfd):
    text = TURTLE + "<urn:\\u003cx> a skos:Concept .\n"
    try:
        read("t", file(tmp_path, text.replace("dog", "d\\u001bog"), "ttl"))
    except RecipeError as error:
        assert "\x1b" not in str(error)
    assert capfd.readouterr() == ("", "")


@real
def test_media_topics_in_four_files_are_one_tree(tmp_path):
    def said(tree):
        return [(node.id, node.label, node.parent, node.path, node.text) for node in tree.nodes]

    folder = DATA / "tax_iptc_mediatopics"
    for exclude in (None, {"retired": "True"}):
        table = read("t", folder / "mediatopics.csv", exclude=exclude)
        linked = read("t", folder / "mediatopics.jsonld", exclude=exclude)
        assert said(table) == said(linked)
        for form in ("ttl", "rdf"):
            path = tmp_path / f"t.{form}"
            path.write_bytes(rendered(linked, form))
            assert said(read("t", path)) == said(table)


def test_rdflib_is_loaded_only_for_turtle_and_xml(tmp_path):
    probe = (
        "import sys; from qdcgen import taxonomy_files; "
        f"taxonomy_files.read('t', {os.fspath(file(tmp_path, FORMS['jsonld'], 'jsonld'))!r}); "
        "print([m for m in ('rdflib', 'polars', 'numpy') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
