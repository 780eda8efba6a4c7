"""Templates reach nothing but what they are given, and cannot spend more than a moment, whatever they say."""

from __future__ import annotations

import contextlib
import resource
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdcgen.errors import RowFault
from qdcgen.rows import Node
from qdcgen.template import FILTERS, MAX_OUTPUT, MAX_SOURCE, METHODS, names_in, render

TOPIC = Node("cards/lost", "lost", "cards/lost", 1, "cards", text="a card is gone")
LONG = "aAb c" * 20_000
NAMES = {
    "topic": TOPIC,
    "mood": "calm",
    "words": 12,
    "persona": {"text": "a tall man", "traits": ["kind", "slow"]},
    "long": LONG,
    "other": "aAb c" * 20_000,
    "many": [str(number) for number in range(20_000)],
    "absent": None,
}


def fault(source, names=NAMES):
    with pytest.raises(RowFault) as caught:
        render(source, names)
    assert caught.value.kind == "template"
    return str(caught.value)


# ── what a template may say ──


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("{{ topic }} ({{ topic.path }}): {{ topic.text }}", "lost (cards/lost): a card is gone"),
        ("{{ persona.text }}, {{ persona['traits'][0] }}", "a tall man, kind"),
        ("{% for trait in persona.traits %}{{ loop.index }} {{ trait }}{% if not loop.last %}, {% endif %}{% endfor %}",
         "1 kind, 2 slow"),
        ("{{ persona.traits|join(' and ') }}", "kind and slow"),
        ("{% if absent %}x{% else %}y{% endif %}{{ absent or 'none' }}", "ynone"),
        ("{{ words * 2 + 1 }} {{ words // 5 }} {{ words % 5 }} {{ (words / 5)|round(1) }}", "25 2 2 2.4"),
        ("{{ mood|upper }} {{ mood.title() }} {{ topic.path.split('/')|first }}", "CALM Calm cards"),
        ("{{ 'x' if mood in ['calm', 'glad'] else 'z' }}", "x"),
        ("{{ mood ~ '-' ~ words }} {{ mood[:2] }} {{ mood + '!' }}", "calm-12 ca calm!"),
        ("{% set n = words - 2 %}{{ n }}{% with m = 3 %}{{ m }}{% endwith %}", "103"),
        ("{% for n in range(3) %}{% for m in range(2) %}{{ n }}{{ m }} {% endfor %}{% endfor %}", "00 01 10 11 20 21 "),
        ("{% for n in range(4) if n is odd %}{{ loop.cycle('a', 'b') }}{% endfor %}", "ab"),
        ("{{ persona|tojson }}", '{"text": "a tall man", "traits": ["kind", "slow"]}'),
        ("{{ nothing|default('d') }}{% if nothing is defined %}x{% endif %}", "d"),
        ("{% raw %}{{ mood }}{% endraw %}{# unseen #}", "{{ mood }}"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
    ],
)  # fmt: skip
def test_a_template_may_do_what_prompts_need(source, printed):
    assert render(source, NAMES) == printed


def test_names_that_a_template_reads_are_known_before_it_runs():
    source = "{{ topic.path }} {% for x in persona.traits %}{{ x ~ mood }}{% endfor %}{{ range(2)|list }}"
    assert names_in(source) == {"topic", "persona", "mood"}


def test_a_missing_axis_says_how_to_guard_it():
    assert fault("{{ absent }}") == (
        "the template prints an axis that this row does not have; guard it: {% if name %}…{% endif %}"
    )
    assert fault("{{ nothing }}") == "template: 'nothing' is undefined"


def test_data_that_looks_like_a_template_is_never_rendered():
    hostile = "{{ 7 * 7 }}{% for x in range(9) %}x{% endfor %}{{ ''.__class__ }}"
    names = {"a": hostile, "b": {"text": hostile, hostile: 1}, "c": [hostile]}
    assert render("{{ a }}", names) == hostile
    assert render("{{ b.text }}{{ a ~ '' }}", names) == hostile * 2
    assert hostile in render("{{ c|join }}", names)
    assert render("{{ '{{ 7 * 7 }}' }}", names) == "{{ 7 * 7 }}"


# ── ways out that are known in public ──


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ topic.__class__.__init__.__globals__ }}",
        "{{ ''['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}",
        "{{ ().__class__.__bases__[0].__subclasses__() }}",
        "{{ ''.__class__.mro()[1] }}",
        "{{ mood.format.__globals__ }}",
        "{{ range.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ joiner.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ dict(a=1) }}",
        "{{ self.__init__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ self }}",
        "{{ config }}",
        "{{ request.application }}",
        "{{ get_flashed_messages.__globals__ }}",
        "{{ loop.__class__ }}",
        "{% for x in [1] %}{{ loop.__init__.__globals__ }}{% endfor %}",
        "{% for x in [1] %}{{ loop._iterable }}{% endfor %}",
        "{{ '{0.__class__}'.format(topic) }}",
        "{{ '{0.__class__}'.format_map({'0': 1}) }}",
        "{{ '%s' % topic }}",
        "{{ '%(a)s' % persona }}",
        "{{ '%s'|format(topic) }}",
        "{{ [topic]|map(attribute='__class__')|list }}",
        "{{ [topic]|map('attr', '__class__')|list }}",
        "{{ many|sort(attribute='__class__') }}",
        "{{ many|join(attribute='__class__') }}",
        "{{ many|min(attribute='__init__.__globals__') }}",
        "{{ many|unique(attribute='__class__')|list }}",
        "{{ many|selectattr('__class__')|list }}",
        "{{ many|groupby('__class__') }}",
        "{{ many|sum(attribute='__class__') }}",
        "{{ mood|pprint }}",
        "{{ {}|xmlattr }}",
        "{{ many.append(1) }}",
        "{{ persona.update({'a': 1}) }}",
        "{{ persona.clear() }}",
        "{{ persona.pop('text') }}",
        "{{ mood.encode() }}",
        "{{ mood.join.__self__ }}",
        "{{ mood.upper.__self__ }}",
        "{{ (mood.upper)(*many) }}",
        "{{ mood.split(**persona) }}",
        "{{ mood.upper }}",
        "{{ range }}",
        "{{ (1).__add__(2) }}",
        "{{ (1).to_bytes(9, 'big') }}",
        "{{ many|random }}",
        "{{ many|select('callable') }}",
        "{{ mood is filter }}",
        "{{ mood is sameas mood }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% block x %}{% endblock %}",
        "{% macro x() %}{{ x() }}{% endmacro %}{{ x() }}",
        "{% call x() %}{% endcall %}",
        "{% filter upper %}x{% endfilter %}",
        "{% set x %}x{% endset %}",
        "{% set mood.x = 1 %}",
        "{% set ns = namespace(x=1) %}{% set ns.x = 2 %}",
        "{% for x in many recursive %}{{ loop(many) }}{% endfor %}",
        "{% autoescape true %}x{% endautoescape %}",
        "{% do 1 %}",
        "{% debug %}",
    ],
)
def test_no_known_way_out_of_the_sandbox_works(source):
    fault(source)
    assert NAMES["persona"] == {"text": "a tall man", "traits": ["kind", "slow"]}
    assert len(NAMES["many"]) == 20_000


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a\n{{ mood|uper }}", "line 2 of the template: no filter called 'uper' here; did you mean 'upper'?"),
        ("{{ mood|attr('x') }}",
         f"line 1 of the template: no filter called 'attr' here; known: {', '.join(FILTERS)}"),
        ("{{ mood.uper() }}", "line 1 of the template: no method called 'uper' here; did you mean 'upper'?"),
        ("{{ mood.ljust(9) }}",
         f"line 1 of the template: no method called 'ljust' here; known: {', '.join(METHODS)}"),
        ("{{ mood is numbr }}", "line 1 of the template: no test called 'numbr' here; did you mean 'number'?"),
        ("{% include 'x' %}", "line 1 of the template: include is not allowed"),
        ("{{ mood ** 2 }}", "line 1 of the template: pow is not allowed"),
        ("{{ mood % 2 }}", "% of a text and a int; expected two numbers"),
        ("{{ [mood] }}", "line 1 of the template: a literal list may hold constants only"),
        ("{{ mood.upper }}", "the template prints a method itself; call it: ()"),
        ("{% for x in words %}{% endfor %}", "template: 'int' object is not iterable"),
        ("{{ topic.nope }}", "template: 'qdcgen.rows.Node object' has no attribute 'nope'"),
        ("{{ 1 // 0 }}", "template: integer division or modulo by zero"),
        ("x\n\n{% if %}", "line 3 of the template: Expected an expression, got 'end of statement block'"),
        ("{{ 1e999 }}", "line 1 of the template: a number beyond 9,223,372,036,854,775,808"),
    ],
)  # fmt: skip
def test_what_is_refused_says_where_and_what_there_is(source, said):
    assert fault(source) == said


# ── bounds ──

DOUBLING = {
    "~": "{% set a = a ~ a ~ a ~ a %}",
    "+": "{% set a = a + a + a + a %}",
    "join": "{% set a = a|list|join(a) %}",
    "replace": "{% set a = a|replace('a', 'aaaa') %}",
    "replace nothing": "{% set a = a|replace('', 'aaaa') %}",
    "string": "{% set a = (a|list)|string %}",
    "tojson": "{% set a = a|list|tojson %}",
    "split": "{% set a = (a ~ ',' ~ a ~ ',' ~ a).split(',')|string %}",
    "with": "{% with a = a ~ a ~ a %}{% set b = a %}{% endwith %}",
    "items": "{% set a = a|items|list|string %}",
}


@pytest.mark.parametrize(
    "source",
    [
        *(f"{{% set a = 'aaaa' %}}{step * 40}x" for step in DOUBLING.values()),
        *(f"{{% set a = long %}}{{% for n in range(9999) %}}{step}{{% endfor %}}x" for step in DOUBLING.values()),
        "{% set a = [1] %}" + "{% set a = a + a %}" * 60 + "{{ a|length }}",
        "{% set a = [1] %}" + "{% set a = [a, a] %}" * 60 + "{{ a }}",
        "{% set a = 1 %}" + "{% set a = a, a %}" * 60 + "{{ a }}",
        "{% set a = 3 %}" + "{% set a = a * a %}" * 60 + "{{ a }}",
        "{% set a = 3 %}" + "{% set a = a + a %}" * 200 + "{{ a }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{{ 'a' * 999999999 }}",
        "{{ [1] * 999999999 }}",
        "{{ 999999999 * 'a' }}",
        "{{ '%999999999d' % 1 }}",
        "{{ ('%999999999d' % 1)|length }}",
        "{{ 'a'|center(999999999) }}",
        "{{ 'a'.zfill(999999999)|length }}",
        "{{ 'a\t'.expandtabs(999999999)|length }}",
        "{{ '{:999999999}'.format(1)|length }}",
        "{{ 'a'|indent(999999999, true) }}",
        "{{ 1|round(999999999, 'ceil') }}",
        "{{ 1.5|round(-999999999, 'floor') }}",
        "{{ many|batch(999999999, 'x')|list }}",
        "{{ many|slice(999999999)|list }}",
        "{{ range(999999999) }}",
        "{{ range(0, 999999999, 1)|list|length }}",
        "{% for a in range(9999) %}" * 3 + "{% endfor %}" * 3,
        "{% for a in range(9999) %}{% for b in long %}{% endfor %}{% endfor %}",
        "{% for a in long %}{% if a in many %}{% endif %}{% endfor %}",
        "{% for a in long %}{% if a not in other %}{% endif %}{% endfor %}",
        "{% for a in many if a in many %}{% endfor %}",
        "{% for a in range(9999) %}{% set b = long[1:] %}{% endfor %}",
        "{% for a in range(9999) %}{% set b = long|upper %}{% endfor %}",
        "{% for a in range(9999) %}{% set b = long.upper() %}{% endfor %}",
        "{% for a in range(9999) %}{% set b = many|sort %}{% endfor %}",
        "{% for a in range(9999) %}{% set b = long.count('aAb') %}{% endfor %}",
        "{% for a in range(9999) %}{{ long }}{% endfor %}",
        "{% for a in long %}" + "{% if a %}{% endif %}" * 2_000 + "{% endfor %}",
        "{{ long }}" * 5,
        "{{ '" + "9" * 5_000 + "'|int + 1 }}",
        "{{ " + "9" * 5_000 + " }}",
        "{{ " + "(" * 9_000 + "1" + ")" * 9_000 + " }}",
        "{{ " + "[" * 300 + "]" * 300 + " }}",
        "{{ " + "not " * 9_000 + "1 }}",
        "{{ " + "-" * 30_000 + "1 }}",
        "{{ 1" + " + 1" * 9_000 + " }}",
        "{{ 1" + "<1" * 30_000 + " }}",
        "{{ mood" + ".a" * 9_000 + " }}",
        "{{ mood" + "|upper" * 9_000 + " }}",
        "{{ words }}" * 5_900,
        "{% if words %}" * 2_000 + "{% endif %}" * 2_000,
        "{% for a in range(1) %}" * 25 + "{% endfor %}" * 25,
        "{% if words %}" + "{% elif words %}" * 3_000 + "{% endif %}",
        "x" * (MAX_SOURCE + 1),
    ],
    ids=lambda source: source[:60],
)  # fmt: skip
def test_nothing_that_is_written_takes_a_second_or_a_hundred_megabytes(source):
    start = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(RowFault):
        assert len(render(source, NAMES)) <= MAX_OUTPUT
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # kilobytes


def test_the_bounds_say_what_they_are():
    assert fault("x" * (MAX_SOURCE + 1)) == "template of 65,537 characters; at most 65,536"
    assert fault("{{ range(10001) }}") == "range of 10,001 values; at most 10,000"
    assert fault("{{ long }}" * 3) == "the template prints more than 262,144 characters"
    assert fault("{% for a in long %}{% for b in long %}{% endfor %}{% endfor %}") == (
        "the template takes more than 1,000,000 steps; shorten its loops"
    )
    assert fault("{{ 1" + "<1" * 9_000 + " }}") == (
        "line 1 of the template: more than 10,000 names and operators; split the step"
    )
    assert fault("{{ " + "not " * 9_000 + "1 }}") == "template nested too deep"
    assert fault("{{ words * 9223372036854775807 }}") == "* gives a number beyond 9,223,372,036,854,775,808"


WORDS = st.sampled_from(
    [
        "{{",
        "}}",
        "{%",
        "%}",
        "for",
        "in",
        "if",
        "endfor",
        "endif",
        "set",
        "mood",
        "topic",
        "many",
        "long",
        "words",
        ".",
        "|",
        "(",
        ")",
        "[",
        "]",
        "'",
        "~",
        "+",
        "-",
        "*",
        "/",
        "%",
        ",",
        ":",
        "=",
        "1",
        "9",
        'range"\n',
        "",
        "",
        "",
        '"',
        "__class__",
        "upper",
        "join",
        "replace",
        "loop",
        "format",
        "\n",
    ]
)


@given(st.lists(WORDS, max_size=25).map(" ".join) | st.text(max_size=60).map("{{{{ {} }}}}".format))
@settings(max_examples=1500, deadline=None)
def test_no_text_raises_anything_but_a_row_fault(source):
    with contextlib.suppress(RowFault):
        assert isinstance(render(source, NAMES), str)


@pytest.mark.parametrize(
    "source",
    [
        "{{ persona }}",
        "{{ persona.text }}",
        "{{ persona | trim }}",
        "{{ '' ~ persona }}",
        "{% set p = persona %}{{ p }}",
    ],
)
def test_a_value_that_is_a_mapping_prints_its_text(source):
    value = {"text": "Bold {{ topic }}.", "openness": 61.5, "tags": ["a"]}
    assert render(source, {"persona": value, "topic": TOPIC}) == "Bold {{ topic }}."


def test_a_mapping_still_gives_its_keys_and_one_without_text_prints_as_it_is():
    value = {"text": "Bold.", "openness": 61.5}
    assert render("{{ p.openness }} {{ p['text'] }} {{ p.keys() | join(',') }}", {"p": value}) == (
        "61.5 Bold. text,openness"
    )
    assert render("{{ p }}", {"p": {"a": 1}}) == "{'a': 1}"
    assert value == {"text": "Bold.", "openness": 61.5}
