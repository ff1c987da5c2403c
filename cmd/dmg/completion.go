package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCmd is dmg completion.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help implements kong.HelpProvider.
func (completionCmd) Help() string {
	return `Prints a script that teaches the shell to complete dmg's commands, flags and files.

Example:

    source <(dmg completion bash)                               # in ~/.bashrc
    dmg completion zsh > "${fpath[1]}/_dmg"
    dmg completion fish > ~/.config/fish/completions/dmg.fish`
}

// Run implements the command. The script is made from the command line's own
// definition, so that it can't miss a flag.
func (c *completionCmd) Run(std *stdio, app *kong.Application) error {
	script := map[string]func(*kong.Application) string{
		"bash": bashCompletion,
		"zsh":  zshCompletion,
		"fish": fishCompletion,
	}[c.Shell](app)
	_, err := fmt.Fprint(std.out, script)
	return err
}

// bashCompletion leaves to bash's default, which is files, what isn't a word of
// ours.
func bashCompletion(app *kong.Application) string {
	var b strings.Builder
	b.WriteString("# bash completion for dmg\n_dmg() {\n")
	b.WriteString("    local cur=${COMP_WORDS[COMP_CWORD]} flags= words=\n")
	b.WriteString("    case $COMP_CWORD:${COMP_WORDS[1]} in\n")
	fmt.Fprintf(&b, "    1:*) flags='%s' words='%s' ;;\n", flagWords(app.Flags), strings.Join(commandNames(app), " "))
	for _, cmd := range app.Children {
		fmt.Fprintf(&b, "    *:%s) flags='%s' words='%s' ;;\n", cmd.Name, flagWords(slices.Concat(app.Flags, cmd.Flags)), argWords(cmd))
	}
	b.WriteString("    esac\n")
	b.WriteString("    [[ $cur == -* ]] && words=$flags\n")
	b.WriteString("    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n")
	b.WriteString("complete -o default -F _dmg dmg\n")
	return b.String()
}

// flagWords are the flags' long names.
func flagWords(flags []*kong.Flag) string {
	var words []string
	for _, f := range flags {
		words = append(words, "--"+f.Name)
	}
	return strings.Join(words, " ")
}

// argWords are what the command's arguments may be, where that is a choice.
func argWords(cmd *kong.Node) string {
	var words []string
	for _, arg := range cmd.Positional {
		words = append(words, choices(arg)...)
	}
	return strings.Join(words, " ")
}

// choices are the values that an argument is one of; none: anything.
func choices(arg *kong.Value) []string {
	if arg.Enum == "" {
		return nil // EnumSlice would have one, empty
	}
	return arg.EnumSlice()
}

// namesFile reports whether the flag's value is the name of a file.
func namesFile(f *kong.Flag) bool { return f.PlaceHolder == "FILE" || f.PlaceHolder == "PATH" }

// zshCompletion describes everything to _arguments, zsh's own parser of command
// lines, once the command is known.
func zshCompletion(app *kong.Application) string {
	var b strings.Builder
	b.WriteString("#compdef dmg\n_dmg() {\n    local -a commands=(\n")
	for _, cmd := range app.Children {
		fmt.Fprintf(&b, "        %s\n", shellQuote(cmd.Name+":"+cmd.Help))
	}
	b.WriteString("    )\n    if ((CURRENT == 2)); then\n")
	fmt.Fprintf(&b, "        _describe command commands -- && return\n        _arguments%s\n        return\n    fi\n", zshFlags(app.Flags))
	b.WriteString("    shift words\n    ((CURRENT--))\n    case $words[1] in\n")
	for _, cmd := range app.Children {
		fmt.Fprintf(&b, "    %s)\n        _arguments%s", cmd.Name, zshFlags(slices.Concat(app.Flags, cmd.Flags)))
		for _, arg := range cmd.Positional {
			action := "_files"
			if words := choices(arg); len(words) > 0 {
				action = "(" + strings.Join(words, " ") + ")"
			}
			more := ""
			if arg.IsCumulative() {
				more = "*"
			}
			fmt.Fprintf(&b, " \\\n            %s", shellQuote(more+":"+arg.Name+":"+action))
		}
		b.WriteString("\n        ;;\n")
	}
	// Found by name in $fpath, the script is the function's body when it first runs.
	b.WriteString("    esac\n}\nif [[ $funcstack[1] == _dmg ]]; then\n    _dmg \"$@\"\nelse\n    compdef _dmg dmg\nfi\n")
	return b.String()
}

// zshFlags are the specifications of flags for _arguments.
func zshFlags(flags []*kong.Flag) string {
	var b strings.Builder
	escape := strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`)
	for _, f := range flags {
		help, value := "["+escape.Replace(f.Help)+"]", ""
		if !f.IsBool() {
			value = ":" + escape.Replace(f.FormatPlaceHolder()) + ": "
			if namesFile(f) {
				value = strings.TrimSuffix(value, " ") + "_files"
			}
		}
		if f.Short != 0 {
			fmt.Fprintf(&b, " \\\n            %s", shellQuote("-"+string(f.Short)+help+value))
		}
		long := "--" + f.Name
		if value != "" {
			long += "="
		}
		fmt.Fprintf(&b, " \\\n            %s", shellQuote(long+help+value))
	}
	return b.String()
}

// fishCompletion is a list of rules; fish finds those that apply.
func fishCompletion(app *kong.Application) string {
	var b strings.Builder
	b.WriteString("# fish completion for dmg\n")
	for _, f := range app.Flags {
		fmt.Fprintf(&b, "complete -c dmg%s\n", fishFlag(f))
	}
	for _, cmd := range app.Children {
		fmt.Fprintf(&b, "complete -c dmg -n __fish_use_subcommand -f -a %s -d %s\n", cmd.Name, shellQuote(cmd.Help))
	}
	for _, cmd := range app.Children {
		seen := fmt.Sprintf("complete -c dmg -n '__fish_seen_subcommand_from %s'", cmd.Name)
		if words := argWords(cmd); words != "" {
			fmt.Fprintf(&b, "%s -f -a '%s'\n", seen, words)
		}
		for _, f := range cmd.Flags {
			b.WriteString(seen + fishFlag(f) + "\n")
		}
	}
	return b.String()
}

// fishFlag is the part of a rule that says what a flag is.
func fishFlag(f *kong.Flag) string {
	s := " -l " + f.Name
	if f.Short != 0 {
		s += " -s " + string(f.Short)
	}
	switch {
	case namesFile(f):
		s += " -r" // a value
	case !f.IsBool():
		s += " -x" // a value that is no file
	}
	return s + " -d " + shellQuote(f.Help)
}

// shellQuote quotes s in the way that all three shells understand.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
