use super::*;

fn confidence(value: &str) -> u8 {
    detect(value.as_bytes(), Marks::of(value.as_bytes())).map_or(0, |finding| finding.confidence)
}

#[test]
fn lists_are_sorted() {
    for list in WORDS {
        assert!(
            list.words().is_sorted(),
            "{:?}",
            list.words().iter().zip(list.words().iter().skip(1)).find(|(a, b)| a > b)
        );
    }
}

#[test]
fn php_that_runs() {
    for attack in [
        "system('id')",
        "phpinfo();",
        "x;base64_decode($_POST['a'])",
        "$_GET[cmd]",
        "$GLOBALS['x'](1)",
        "$a(1)",
        "$a['b'](2)",
        "${'f'}(3)",
        "${@a}",
        "('sys'.'tem')('id')",
        "(system)(ls);",
        "[system][0](ls)",
        "\"system\"('uname')",
        "eval /* x */ ('1')",
        "allow_url_include=1",
        "unlink($f)",
        "chr(123)",
        "$a/*x*/()",
        "<? echo 1",
        "<?xml :echo 1",
        "a<?",
        "<?\nphp x",
        "x{/php}",
        "opcache.jit=1",
        "call_user_func('a','b')",
        "print(md5(1));",
    ] {
        assert!(confidence(attack) >= 70, "{attack}: {}", confidence(attack));
    }
    for fine in [
        "the files (yep)",
        "the system is down()",
        "executor()",
        "cheval($foo)",
        "unserialized",
        "it costs $5 (five)",
        "$a[]()",
        "this is a \"dog\" (not a cat)",
        "(foo)/(bar)",
        "Our system (the new one) is up",
        "You can use file_exists to look for the file in a folder",
        "f(x)(y)",
        "rgb(1, 2, 3)",
        "print (2nd edition)",
        "exec (",
        "[php]echo 1;[/php]",
        "<?xml version=\"1.0\"?>",
        "<?xml-stylesheet href=\"a\"?>",
        "3 <? 4",
        "Please system() me",
        "US$(5)",
        "print(\"hello, world\")",
        "print(len(x))",
    ] {
        assert!(confidence(fine) < 70, "{fine}: {}", confidence(fine));
    }
}

#[test]
fn java_that_reaches() {
    for attack in [
        "java.lang.Runtime",
        "java.io.FileReader",
        "T(java.lang.Runtime).getRuntime().exec('id')",
        "class.module.classLoader.resources.context.parent",
        "(#_memberAccess['allowStaticMethodAccess']=true)",
        "@java.lang.System@getProperty('os')",
        "x.getClass().forName('y')",
        "org.apache.commons.collections.functors.InvokerTransformer",
        "new ProcessBuilder('id').start()",
        "com.sun.rowset.JdbcRowSetImpl",
        "System.getProperty('user.dir')",
        "\"\".getClass()",
        "\"id\".execute()",
        "new GroovyShell().evaluate('1')",
        "System.Windows.Data.ObjectDataProvider, PresentationFramework",
        "class['module']['classLoader']",
    ] {
        assert!(confidence(attack) >= 70, "{attack}: {}", confidence(attack));
    }
    for fine in [
        "java.lang.NullPointerException at line 4 of the log that I sent",
        "Java 21 and the class loader",
        "the java.util package is what you want to read about",
        "We moved from java.io.File to something nicer last year",
        "www.java.com",
        "runtime error",
        "system.getting started",
        "the system (getenv)",
        "execute()",
        "class.name",
        "org.example.shop",
    ] {
        assert!(confidence(fine) < 70, "{fine}: {}", confidence(fine));
    }
}

#[test]
fn scripts_that_run() {
    for attack in [
        "require('child_process').exec('id')",
        "process.mainModule.require",
        "global.process.exit()",
        "this.constructor.constructor('return process')()",
        "__import__('os').system('id')",
        "''.__class__.__mro__",
        "os.popen('id').read()",
        "subprocess.check_output(['id'])",
        "Kernel.exec('id')",
        "IO.popen('id')",
        "File.read('/x')",
        "new Function('return 1')()",
        "fs.readFileSync('/x')",
        "CreateObject(\"WScript.Shell\").Run(\"cmd\")",
        "WScript.Shell",
    ] {
        assert!(confidence(attack) >= 70, "{attack}: {}", confidence(attack));
    }
    for fine in [
        "The process (see above) requires a file",
        "file.open",
        "os.path",
        "I/O of the global module",
        "process.md",
        "module.css",
        "open (daily)",
        "class __init__ explained in ten simple words",
        "Mozilla/5.0 (compatible; FileZilla)",
    ] {
        assert!(confidence(fine) < 70, "{fine}: {}", confidence(fine));
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(value in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), tail in "[$a-z(){}\\[\\]'\".;@:]{0,40}") {
        let mut value = value;
        value.extend_from_slice(tail.as_bytes());
        let _ = super::super::detect(&value, &value, Marks::of(&value), crate::detect::Scope { name: b"next", ..crate::detect::Scope::EVERY });
    }
}
