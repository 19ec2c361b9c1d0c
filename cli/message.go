package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

func (a *app) messages() *cobra.Command {
	return group("message", "What topics of the platform are told, and what they could not be told", a.messageList(), a.messageRetry(), a.messageDiscard())
}

func (a *app) messageList() *cobra.Command {
	var status string
	var last int
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List messages to topics, the newest first", Args: cobra.NoArgs,
		Example: `  budcluster message list
  budcluster message list --status Dead`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if last < 0 {
				return usagef("--last must not be negative")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			var found []hubapi.Message
			for m, err := range c.AllMessages(cmd.Context(), hubapi.MessageStatus(status)) {
				if err != nil {
					return err
				}
				if found = append(found, m); len(found) == last {
					break
				}
			}
			p := a.printer()
			head := []string{"ID", "TOPIC", "SAYS", "ABOUT", "STATUS", "ATTEMPTS", "AGE", "ERROR"}
			return list(p, found, func(m hubapi.Message) string { return strconv.FormatInt(m.ID, 10) }, head, func(m hubapi.Message) []cell {
				state := cell{text: string(m.Status)}
				switch {
				case m.Status == hubapi.MessageSent:
					state.tone = good
				case m.Status == hubapi.MessageDead, m.Error != "":
					state.tone = bad
				}
				return []cell{
					text(strconv.FormatInt(m.ID, 10)), text(m.Topic), text(m.Key), text(m.StreamID), state, text(strconv.Itoa(m.Attempts)),
					p.age(m.WrittenAt), text(m.Error),
				}
			})
		},
	}
	cmd.Flags().StringVar(&status, "status", "", "only those that are Pending, Sent or Dead")
	cmd.Flags().IntVar(&last, "last", 50, "show this many; 0 shows all")
	must(cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions([]string{"Pending", "Sent", "Dead"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (a *app) messageRetry() *cobra.Command {
	return &cobra.Command{
		Use: "retry MESSAGE", Short: "Have a message tried again that was given up", Args: cobra.ExactArgs(1),
		Example: "  budcluster message retry 1204",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := messageID(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			m, err := c.RetryMessage(cmd.Context(), id)
			if err != nil {
				return err
			}
			return one(a.printer(), m, args[0], func() {
				_, _ = fmt.Fprintf(a.w.Out, "Message %d to %s is tried again.\n", m.ID, m.Topic)
			})
		},
	}
}

func (a *app) messageDiscard() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "discard MESSAGE", Short: "Delete a message that was given up", Args: cobra.ExactArgs(1),
		Example: "  budcluster message discard 1204",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := messageID(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := a.confirm(yes, fmt.Sprintf("The receivers of message %d never hear of it. Delete it?", id)); err != nil {
				return err
			}
			if err := c.DiscardMessage(cmd.Context(), id); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(a.w.Out, "Message %d is deleted.\n", id)
			return nil
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func messageID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, usagef("%q is not the id of a message; `budcluster message list` shows them", text)
	}
	return id, nil
}
