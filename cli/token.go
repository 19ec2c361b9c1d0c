package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

func (a *app) tokens() *cobra.Command {
	return group("token", "Join tokens of a cluster", a.tokenList(), a.tokenCreate(), a.tokenRevoke())
}

func (a *app) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list CLUSTER", Aliases: []string{"ls"}, Short: "List a cluster's join tokens", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeClusters,
		Example: "  budcluster token list frankfurt",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			l, err := c.Tokens(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p := a.printer()
			head := []string{"ID", "STATE", "USES LEFT", "EXPIRES IN", "USED", "BY", "AGE"}
			return list(p, l.Items, func(t hubapi.Token) string { return t.ID }, head, func(t hubapi.Token) []cell {
				state := cell{text: string(t.State), tone: dim}
				left := cell{}
				if t.State == hubapi.TokenValid {
					state.tone, left.text = good, p.until(t)
				}
				return []cell{text(t.ID), state, text(fmt.Sprint(t.UsesLeft)), left, p.since(t.UsedAt), text(t.CreatedBy), p.age(t.CreatedAt)}
			})
		},
	}
}

func (a *app) tokenCreate() *cobra.Command {
	var r hubapi.CreateTokenRequest
	cmd := &cobra.Command{
		Use: "create CLUSTER", Short: "Make a join token and print the command that uses it", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeClusters,
		Example: `  budcluster token create frankfurt
  budcluster token create frankfurt --ttl 1h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			made, err := c.CreateToken(cmd.Context(), args[0], r)
			if err != nil {
				return err
			}
			p := a.printer()
			return one(p, made, made.JoinToken.ID, func() { p.install(made.InstallCommand, made.JoinToken) })
		},
	}
	cmd.Flags().StringVar(&r.TTL, "ttl", "", "how long it may be used (default 24h)")
	cmd.Flags().IntVar(&r.Uses, "uses", 0, "how often it may be used (default 1)")
	return cmd
}

func (a *app) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke CLUSTER ID", Short: "Make a join token useless", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeClusters,
		Example: "  budcluster token revoke frankfurt 4kq7x2",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := c.RevokeToken(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(a.w.Out, "Join token %s is revoked.\n", args[1])
			return nil
		},
	}
}

func (a *app) keys() *cobra.Command {
	return group("api-key", "Keys for the hub's API", a.keyList(), a.keyCreate(), a.keyRevoke())
}

func (a *app) keyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List API keys", Args: cobra.NoArgs,
		Example: "  budcluster api-key list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			l, err := c.Keys(cmd.Context())
			if err != nil {
				return err
			}
			p := a.printer()
			head := []string{"ID", "NAME", "ROLE", "STATE", "USED", "BY", "AGE"}
			return list(p, l.Items, func(k hubapi.Key) string { return k.ID }, head, func(k hubapi.Key) []cell {
				state := cell{text: "Valid", tone: good}
				if k.RevokedAt != nil {
					state = cell{text: "Revoked", tone: dim}
				}
				return []cell{text(k.ID), text(k.Name), text(string(k.Role)), state, p.since(k.LastUsedAt), text(k.CreatedBy), p.age(k.CreatedAt)}
			})
		},
	}
}

func (a *app) keyCreate() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make an API key and print it, once", Args: cobra.ExactArgs(1),
		Example: `  budcluster api-key create ci --role operator
  budcluster api-key create dashboard --role viewer -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			made, err := c.CreateKey(cmd.Context(), hubapi.CreateKeyRequest{Name: args[0], Role: hubapi.Role(role)})
			if err != nil {
				return err
			}
			p := a.printer()
			return one(p, made, made.Key.ID, func() {
				a.warn("API key %s (%s) is made; it is shown only now:", made.Key.Name, made.Key.Role)
				_, _ = fmt.Fprintln(p.out, made.Secret)
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", string(hubapi.RoleViewer), "viewer, operator or admin")
	must(cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"viewer", "operator", "admin"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (a *app) keyRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Make an API key useless", Args: cobra.ExactArgs(1),
		Example: "  budcluster api-key revoke 4kq7x2",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := c.RevokeKey(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(a.w.Out, "API key %s is revoked.\n", args[0])
			return nil
		},
	}
}
