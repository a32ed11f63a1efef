use super::*;

fn sure(value: &str) -> bool {
    detect(value.as_bytes()).is_some_and(|finding| finding.confidence >= 70)
}

#[test]
fn expressions_of_each_engine() {
    assert!(REACHES.words().is_sorted() && SCOPES.words().is_sorted());
    for attack in [
        "{{7*7}}",
        "{{ 7*'7' }}",
        "{{ ''['__cl'+'ass__'] }}",
        "[=\"freemarker.template.utility.Execute\"?new()(\"id\")]",
        "~{::x}",
        "${7*7}",
        "#{3*4}",
        "*{2+2}",
        "<%= 7*7 %>",
        "{{config.items()}}",
        "{{self.__init__.__globals__}}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for x in ().__class__.__base__.__subclasses__() %}x{% endfor %}",
        "{{_self.env.registerUndefinedFilterCallback('exec')}}",
        "${T(java.lang.Runtime).getRuntime()}",
        "__${new java.util.Scanner(x)}__",
        "<#assign ex='freemarker.template.utility.Execute'?new()>${ex('id')}",
        "#set($e='e')$e.getClass()",
        "{php}",
        "{Smarty_Internal_Write_File::writeFile($a)}",
        "{system('id')}",
        "<!--#exec cmd=\"id\" -->",
        "#{`id`}",
        "%{(#a=1).(#b=@x@y())}",
        "{% debug %}",
        "{%- include '/etc/hostname' %}",
        "{% import os %}",
        "{% set a=7*7 %}",
        "{!! 3*4 !!}",
        "{{#with \"a\" as |b|}}{{/with}}",
        "{{lookup this \"constructor\"}}",
        "{{printf \"%s\" .}}",
        "${pageContext.request}",
        "${.data_model}",
        "%{#context['a']}",
        "[#assign a=1]",
        "<#list 1..9 as a>${a}</#list>",
        "#foreach($i in [1..9])$i#end",
        "#evaluate('a')",
        "<cfexecute name=\"id\">",
        "<!--esi <b>x</b>-->",
    ] {
        assert!(sure(attack), "{attack}");
    }
}

#[test]
fn placeholders_pass() {
    for fine in [
        "{{name}}",
        "Dear {{ user.first_name }}, you owe {{ total | round }}",
        "${HOME}/bin",
        "#{order.id}",
        "{% if user %}hello{% endif %}",
        "{\"a\": 1, \"b\": [2]}",
        "{a}, {b} and {c}",
        "C# {get; set;}",
        "100% {sure}",
        "<b>[[link]]</b>",
        "a {{ b }} c {{ d.e }}",
        "{2 of 3}",
        "{% debugger %}",
        "{% include 'footer.html' %}",
        "{% import 'forms.html' as forms %}",
        "{% set name = 'Ann' %}",
        "{!isOpen}",
        "{{#with author}}{{name}}{{/with}}",
        "{{constructor}} and {{driver}}",
        "${page.title}",
        "${...}",
        "see #foreach and #parse",
        "<#general> and [#12]",
        "<cfg> <cfid>",
    ] {
        assert!(!sure(fine), "{fine}");
    }
}
