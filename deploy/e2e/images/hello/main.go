// Command hello is the program inside the tests' pods. It plays whatever part
// its first argument names; several parts joined by "then" are played in turn:
//
//	serve [:PORT]         answer every request with the pod's name and $GREETING; /healthz answers 200
//	get URL               fetch a page and print it
//	sleep DURATION        wait ("forever" waits for a signal)
//	say TEXT              write to the termination message, which the kubelet shows in the pod's status
//	exit CODE             leave
//	wait-for URL          fetch a page until it answers 200
//	env | cat FILE        print the environment, or a file
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// terminationLog is where the kubelet looks for a pod's last words.
const terminationLog = "/dev/termination-log"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code, err := play(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		code = 1
	}
	os.Exit(code)
}

func play(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 {
		args = []string{"serve"}
	}
	for len(args) > 0 {
		part := args
		if i := slices.Index(args, "then"); i >= 0 {
			part, args = args[:i], args[i+1:]
		} else {
			args = nil
		}
		if len(part) == 2 && part[0] == "exit" {
			return strconv.Atoi(part[1])
		}
		if err := one(ctx, part); err != nil {
			return 1, err
		}
	}
	return 0, nil
}

func one(ctx context.Context, part []string) error {
	if len(part) == 0 {
		return errors.New("an empty part")
	}
	argument := strings.Join(part[1:], " ")
	switch part[0] {
	case "serve":
		return serve(ctx, argument)
	case "get":
		return get(ctx, argument)
	case "wait-for":
		return waitFor(ctx, argument)
	case "sleep":
		return sleep(ctx, argument)
	case "say":
		return os.WriteFile(terminationLog, []byte(argument), 0o600)
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
		return nil
	case "cat":
		content, err := os.ReadFile(argument)
		fmt.Print(string(content))
		return err
	default:
		return fmt.Errorf("unknown part %q", part[0])
	}
}

func serve(ctx context.Context, address string) error {
	if address == "" {
		address = ":8080"
	}
	name, _ := os.Hostname()
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "hello from %s %s\n", name, os.Getenv("GREETING"))
	})
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Println("listening on", address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, response.Status)
	}
	return nil
}

func waitFor(ctx context.Context, url string) error {
	for {
		err := get(ctx, url)
		if err == nil {
			return nil
		}
		fmt.Fprintln(os.Stderr, "not yet:", err)
		if err := sleep(ctx, "200ms"); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, how string) error {
	if how == "forever" || how == "" {
		<-ctx.Done()
		return nil
	}
	long, err := time.ParseDuration(how)
	if err != nil {
		return err
	}
	select {
	case <-time.After(long):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
