package api

import (
	"context"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/page"
)

// Messages is what topics are told; notify.Letters.
type Messages interface {
	List(ctx context.Context, status notify.LetterStatus, p page.Page) ([]notify.Letter, string, error)
	Retry(ctx context.Context, actor string, row int64) (notify.Letter, error)
	Discard(ctx context.Context, actor string, row int64) error
}

type listMessagesInput struct {
	PageInput
	Status string `query:"status" enum:"Pending,Sent,Dead" doc:"Only those of this status."`
}

func (s *Server) listMessages(ctx context.Context, in *listMessagesInput) (*body[hubapi.List[hubapi.Message]], error) {
	found, next, err := s.cfg.Messages.List(ctx, notify.LetterStatus(in.Status), in.page())
	if err != nil {
		return nil, err
	}
	return listed(found, next, messageOut), nil
}

type messageInput struct {
	Message int64 `path:"message" minimum:"1" doc:"The message's id."`
}

func (s *Server) retryMessage(ctx context.Context, in *messageInput) (*body[hubapi.Message], error) {
	l, err := s.cfg.Messages.Retry(ctx, actor(ctx), in.Message)
	if err != nil {
		return nil, err
	}
	return &body[hubapi.Message]{Body: messageOut(l)}, nil
}

func (s *Server) discardMessage(ctx context.Context, in *messageInput) (*struct{}, error) {
	return nil, s.cfg.Messages.Discard(ctx, actor(ctx), in.Message)
}

func messageOut(l notify.Letter) hubapi.Message {
	return hubapi.Message{
		ID: l.Row, Topic: l.Topic, Key: l.Key, StreamID: l.Stream.String(), EventID: l.EventID.String(), Type: l.Type, Bytes: l.Size,
		Status: hubapi.MessageStatus(l.Status), WrittenAt: l.WrittenAt, Attempts: l.Attempts, NextAt: l.NextAt, EndedAt: l.EndedAt, Error: l.Error,
	}
}
