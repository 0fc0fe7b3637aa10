"""A hundred texts that mean something to YAML, Helm, shells, URLs or terminals."""

HOSTILE = [
    "a: b", "- a", "[a]", "{a: b}", "&a b", "*a", "!!int 1", "!!python/object/apply:os.system [id]", "? a",
    "| a", "> a", "a\nkind: Secret", "a\n---\nkind: Secret\n", "\n...\n", "a\r\nb: c", "\ta", "# a", "a # b",
    "%YAML 1.1", "@a", "`a`", "{{ .Release.Name }}", "{{ lookup \"v1\" \"Secret\" \"\" \"\" }}", "{{- end }}",
    "}}", "{{/*", "$(HOME)", "${HOME}", "$(id)", "`id`", "; id", "&& id", "| id", "> /tmp/x", "a'b", "a\"b",
    "a\\b", "\\x41", "\\u0041", "\\\n", "'", "\"", "~", "null", "yes", "no", "on", "off", "true", "0x1f",
    "0o17", "1e3", "1_000", ".inf", ".nan", "12:30:45", "=", "<<", "2026-01-01", "\u0000", "\u0007",
    "\u001b[2J", "\u007f", "\u0085", "\u2028", "\u2029", "\ufeff", "\u202e", "\U0001f600", "\u00e9", "\uff41",
    "../..", "/etc/passwd", "//", "a/b/c", "a@b", "a:b", "%2e%2e", "%0a", "?x=1", "#f", "https://a@b",
    "https://a/$(id)", "https://a b", "https://[::1", "https://a:99999999", "javascript:alert(1)",
    "file:///etc", "-", "--", "-a", "a-", ".a", "a.", "A", "a" * 64, "a" * 300, "a" * 5000, " ", "",
]  # fmt: skip
