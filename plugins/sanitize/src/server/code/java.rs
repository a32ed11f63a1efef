//! Java: classes that run or load code, reflection, gadgets of known exploits, and the expression languages around it
//! (OGNL, SpEL, EL).

use super::Chain;
use crate::bytes::{at, starts};
use crate::finding::Finding;
use crate::lexicon::Lexicon;

/// Words that chains worth a look hold. Sorted.
#[rustfmt::skip]
pub(super) static WORDS: Lexicon = Lexicon::new(&[
    "_memberaccess", "classloader", "com", "commons", "corba", "defineclass", "diagnostics", "execute",
    "forname", "freemarker", "getclass", "getclassloader", "getdeclaredmethod", "getdeclaredmethods", "getenginebyname",
    "getenv", "getmethod", "getmethods", "getproperty", "getruntime", "groovy", "groovyshell", "java", "javax", "jdk", "loadclass", "newinstance",
    "ognl", "opensymphony", "org", "processbuilder", "protectiondomain", "runtime", "scriptenginemanager",
    "setmemberaccess", "springframework", "sun", "xwork", "xwork2",
]);

/// Classes of libraries that known chains of deserialization and expression injection go through. Sorted.
#[rustfmt::skip]
pub(super) static GADGETS: Lexicon = Lexicon::new(&[
    "annotationinvocationhandler", "badattributevalueexpexception", "basicdatasource", "beancomparator",
    "c3p0", "chainedtransformer", "clonetransformer", "constanttransformer", "forclosure",
    "groovyshell", "instantiatefactory", "instantiatetransformer", "invokertransformer", "jdbcrowsetimpl",
    "jndirefforwardingdatasource", "lazymap", "memberaccess", "methodaccessor", "objectdataprovider", "ognlutil",
    "prototypeclonefactory", "prototypeserializationfactory", "templatesimpl", "tiedmapentry",
    "transformedmap", "whileclosure", "xmldecoder",
]);

/// Packages by their first two or three names, whose classes no client has a reason to name. Sorted.
#[rustfmt::skip]
const PACKAGES: &[&str] = &[
    "com.opensymphony.xwork", "com.sun.org.apache", "com.sun.rowset", "freemarker.template.utility", "groovy.lang",
    "java.beans", "java.io", "java.lang", "java.net", "java.nio", "java.processbuilder", "java.rmi", "java.runtime", "java.security", "java.util.scanner",
    "javax.el", "javax.naming", "javax.script", "jdk.jshell", "org.apache.commons", "org.apache.tomcat",
    "org.codehaus.groovy", "org.omg.corba", "org.springframework", "sun.misc.unsafe", "system.diagnostics",
];

/// Methods of reflection, and what starts a process. Sorted.
static CALLED: Lexicon = Lexicon::new(&[
    "defineclass",
    "forname",
    "getclassloader",
    "getdeclaredmethod",
    "getdeclaredmethods",
    "getenginebyname",
    "getmethod",
    "getmethods",
    "getruntime",
    "loadclass",
    "newinstance",
]);

pub(super) fn judge(chain: &Chain<'_>) -> Option<Finding> {
    let text = chain.text;
    if names(text).any(|name| GADGETS.has(name))
        && (text.contains(&b'.') || chain.before == b'@' || !chain.prose)
    {
        return chain.found(if chain.prose { 60 } else { 82 }, "java-gadget");
    }
    // OGNL's way to a static field or method: `@java.lang.Runtime@getRuntime()`.
    if chain.before == b'@' && chain.next() == b'@' && text.contains(&b'.') {
        return chain.found(88, "ognl");
    }
    if let Some(finding) = class(chain) {
        return Some(finding);
    }
    // `class.module.classLoader.resources`, `getClass().forName(..)`: from any bean to its loader.
    if chain.first.eq_ignore_ascii_case(b"class")
        && (chain.has_name(b"classloader")
            || chain.has_name(b"protectiondomain")
            || chain.next() == b'['
                && crate::bytes::find(chain.value, b"['classloader']", chain.start).is_some())
    {
        return chain.found(88, "java-loader");
    }
    if chain.is_called()
        && CALLED.has(chain.last)
        && (text.len() > chain.last.len() || chain.before == b'.' || chain.before == b'@' || !chain.prose)
    {
        return chain.found(if chain.prose { 60 } else { 78 }, "java-reflection");
    }
    if chain.last.eq_ignore_ascii_case(b"getclass")
        && chain.is_called()
        && (matches!(at(chain.value, chain.after + 2), b'.' | b'[') || chain.before == b'.')
    {
        return chain.found(80, "java-reflection");
    }
    // `"id".execute()` of Groovy, `System.getProperty('x')`.
    let literal =
        chain.before == b'.' && matches!(at(chain.value, chain.start.wrapping_sub(2)), b'"' | b'\'');
    let process = chain.first.eq_ignore_ascii_case(b"system")
        && crate::bytes::listed(&["getenv", "getproperties", "getproperty"], chain.last);
    if chain.is_called_tight() && (process || literal && chain.text.eq_ignore_ascii_case(b"execute")) {
        return chain.found(if chain.prose { 60 } else { 78 }, "java-process");
    }
    if chain.first.eq_ignore_ascii_case(b"_memberaccess") || chain.has_name(b"setmemberaccess") {
        return chain.found(90, "ognl");
    }
    if chain.last.eq_ignore_ascii_case(b"processbuilder") && (chain.is_called() || chain.is_alone()) {
        return chain.found(78, "java-process");
    }
    None
}

fn names(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| matches!(b, b'.' | b':' | b'-' | b'>' | b'?' | b'\\'))
}

impl Chain<'_> {
    fn has_name(&self, wanted: &[u8]) -> bool {
        names(self.text).any(|name| name.eq_ignore_ascii_case(wanted))
    }
}

/// A class of a package that only code names.
fn class(chain: &Chain<'_>) -> Option<Finding> {
    let text = chain.text;
    if !text.contains(&b'.') {
        return None;
    }
    // An element of XStream, which makes an object of it.
    if chain.before == b'<' && (starts(text, b"java.") || starts(text, b"javax.")) {
        let element = chain.start < 2 || !crate::bytes::is_word(at(chain.value, chain.start - 2));
        return chain.found(if element && !chain.prose { 78 } else { 45 }, "java-element");
    }
    let inside = |package: &&str| {
        let next = at(text, package.len());
        starts(text, package.as_bytes())
            && (next == 0 || !crate::bytes::is_word(next) || package.ends_with("xwork"))
    };
    if !PACKAGES.iter().any(inside) {
        return None;
    }
    if chain.has_name(b"runtime")
        || chain.has_name(b"processbuilder")
        || chain.has_name(b"scriptenginemanager")
    {
        return chain.found(if chain.prose { 65 } else { 88 }, "java-process");
    }
    // What stack traces and their readers name.
    if ends_with(chain.last, b"exception")
        || ends_with(chain.last, b"error")
        || chain.before == b'/'
        || chain.before == b'-'
    {
        return None;
    }
    let used = !chain.prose && (chain.is_called() || matches!(chain.before, b'@' | b'('));
    match (used, chain.is_alone()) {
        (true, _) => chain.found(85, "java-class"),
        (_, true) => chain.found(74, "java-class"),
        _ if !chain.value.iter().any(|b| crate::bytes::is_space(*b)) && chain.before == b'=' => {
            chain.found(74, "java-class")
        }
        _ => chain.found(45, "java-class"),
    }
}

fn ends_with(word: &[u8], lower: &[u8]) -> bool {
    word.len().checked_sub(lower.len()).is_some_and(|cut| starts(crate::bytes::from(word, cut), lower))
}
