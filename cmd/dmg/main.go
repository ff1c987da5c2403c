// Command dmg reads Apple disk images: it says what is in one, lists its files and
// copies them, extracts its disk or parts of it, and serves it to other programs.
//
// Every command explains itself, with examples: dmg COMMAND --help.
//
// The exit status says what went wrong: dmg --help lists them. It is 141 if the
// reader of standard output went away.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// The command line: a field a command, each in the file of its name.
type cli struct {
	Info       infoCmd       `cmd:"" help:"Say what an image is and what is in it."`
	Ls         lsCmd         `cmd:"" help:"List the files in an image."`
	Cp         cpCmd         `cmd:"" help:"Copy files and folders out of an image."`
	App        appCmd        `cmd:"" help:"List the applications and installer packages in an image."`
	Cat        catCmd        `cmd:"" help:"Write a file in an image, or a range of its disk, to standard output."`
	Extract    extractCmd    `cmd:"" help:"Write an image's disk, or one partition, to a file."`
	Verify     verifyCmd     `cmd:"" help:"Check an image against the checksums that it stores."`
	Map        mapCmd        `cmd:"" help:"Draw how an image's disk is stored, and where it is damaged."`
	Index      indexCmd      `cmd:"" help:"Save an index of an image, with which reads at any offset are fast."`
	NBD        nbdCmd        `cmd:"" name:"nbd" help:"Serve an image's disk, read-only, to QEMU and other clients of the NBD protocol."`
	Completion completionCmd `cmd:"" help:"Print a completion script for a shell."`
	Help       helpCmd       `cmd:"" help:"Print help on a command, or on all of dmg."`
	Version    versionCmd    `cmd:"" help:"Print the version."`

	VersionFlag kong.VersionFlag `name:"version" help:"Print the version and exit."`
}

// stdio are the standard streams of a command.
type stdio struct {
	in  io.Reader
	out io.Writer
	err io.Writer
	web *web
}

func main() {
	// A write to a closed pipe is to fail instead of ending the process, so that what was begun is cleaned up.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main with everything it touches given. It returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	defer keepHeapLimit()()
	web, args := newWeb(args)
	defer web.close()
	std := &stdio{stdin, stdout, stderr, web}
	bare := len(args) == 0 // help is what is needed then, but not what was asked for
	if bare {
		args, std.out = []string{"--help"}, stderr
	}
	exited := false // kong printed help or the version, and goes on parsing
	printed := &keeper{w: std.out}
	parser, err := newParser(printed, stderr, func(int) { exited = true })
	if err != nil {
		return report(std, err)
	}
	command, err := parser.Parse(args)
	switch {
	case bare:
		return statusMisuse
	case printed.err != nil:
		return report(std, printed.err)
	case exited:
		return statusOK
	case err != nil:
		return reportMisuse(std, err)
	}
	command.Bind(parser)
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(parser.Model)
	return report(std, command.Run(std))
}

// A keeper keeps the first error of a writer, for kong, which passes over those at
// the version, and takes those at help for misuse.
type keeper struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (k *keeper) Write(p []byte) (int, error) {
	n, err := k.w.Write(p)
	k.err = cmp.Or(k.err, err)
	return n, err
}

// newParser makes the parser of the command line. Exit is called where kong
// would end the process, as after --help; it goes on if exit returns.
func newParser(stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(new(cli),
		kong.Name("dmg"),
		kong.Description("Read Apple disk images without decoding more than is asked for."),
		kong.Writers(stdout, stderr),
		kong.Exit(exit),
		kong.KindMapper(reflect.String, kong.MapperFunc(verbatim)),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.Help(printHelp),
		kong.Vars{"version": version()},
	)
}

// printHelp adds the exit statuses to all help.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	err := kong.DefaultHelpPrinter(options, ctx)
	if err == nil {
		_, err = fmt.Fprintln(ctx.Stdout, "\n"+statusHelp)
	}
	return err
}

// helpCmd is dmg help.
type helpCmd struct {
	Command string `arg:"" optional:"" help:"The command to explain; all of dmg if not given."`
}

// Run implements the command: dmg help COMMAND is dmg COMMAND --help.
func (c *helpCmd) Run(parser *kong.Kong) error {
	var args []string
	if c.Command != "" {
		if !slices.Contains(commandNames(parser.Model), c.Command) {
			return unknownCommand(parser.Model, c.Command, "")
		}
		args = append(args, c.Command)
	}
	ctx, err := kong.Trace(parser, args)
	if err != nil {
		return err
	}
	return ctx.PrintUsage(false)
}

// versionCmd is dmg version, as the flag is.
type versionCmd struct{}

// Run implements the command.
func (versionCmd) Run(std *stdio) error {
	_, err := fmt.Fprintln(std.out, version())
	return err
}

// commandNames are the names of all commands.
func commandNames(app *kong.Application) []string {
	var names []string
	for _, cmd := range app.Children {
		names = append(names, cmd.Name)
	}
	return names
}

// unknownCommand says which commands there are, and kong's guess, if it has one.
func unknownCommand(app *kong.Application, name, guess string) misuse {
	end := "."
	if guess != "" {
		end = ", did you mean " + guess
	}
	return misuse(`no command is named "` + name + `"` + end + " The commands are " + strings.Join(commandNames(app), ", "))
}

// verbatim takes a string byte for byte. Kong's own mapper goes by way of JSON,
// which puts U+FFFD into file names that aren't UTF-8. A flag's empty string would
// stand for one that isn't given: the whole disk for a partition, a TCP port for a
// socket. It is likely a script's variable that isn't set.
func verbatim(ctx *kong.DecodeContext, target reflect.Value) error {
	token, err := ctx.Scan.PopValue("string")
	if err != nil {
		return err
	}
	s := token.String()
	if s == "" && ctx.Value.Flag != nil {
		return errors.New("the value is empty")
	}
	target.SetString(s)
	return nil
}

// version is the module's version as the go command stamped it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return "dmg " + info.Main.Version
	}
	return "dmg (devel)"
}

// reportMisuse prints what is wrong with the command line and where help is.
func reportMisuse(std *stdio, err error) int {
	command, text := "dmg", misuseText(oneLine(err))
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			command += " " + node.Name
		} else if name, ok := strings.CutPrefix(text, "unexpected argument "); ok {
			name, guess, _ := strings.Cut(name, ", did you mean ")
			text = unknownCommand(parse.Context.Model, name, guess).Error()
		}
	}
	fmt.Fprintf(std.err, "dmg: %s\nTry \"%s --help\".\n", text, command)
	return statusMisuse
}

// valueLikeFlag is what kong says of a value that begins with a minus, where it is no
// part of the flag's own word.
var valueLikeFlag = regexp.MustCompile(`^(--[a-z-]+): expected (\S+) value but got "(.*)" \((?:short|long) flag\)`)

// misuseText puts kong's words for what is missing into plainer ones.
func misuseText(text string) string {
	if m := valueLikeFlag.FindStringSubmatch(text); m != nil {
		var n byteSize
		if m[2] == "value" { // a number: strings have "string"
			if err := n.UnmarshalText([]byte(m[3])); err != nil {
				return m[1] + ": " + err.Error()
			}
		}
		return fmt.Sprintf("%s needs a value: if that is %q, give %[1]s=%[2]s", m[1], m[3])
	}
	if flag, _, ok := strings.Cut(text, ": expected "); ok && strings.HasSuffix(text, `but got "EOL" (<EOL>)`) {
		return flag + " needs a value"
	}
	if what, ok := strings.CutPrefix(text, "expected \"<"); ok {
		return "missing argument \"<" + what
	}
	return text
}
