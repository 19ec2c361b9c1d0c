package helm

import (
	"cmp"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// trouble is what a pod says about itself; the higher rank is told first.
type trouble struct {
	rank int
	text string
}

const (
	rankNone = iota
	rankStarting
	rankNotReady
	rankUnschedulable
	rankExited
	rankWaiting
)

// worst returns the gravest thing that the pods say, or "".
func worst(pods []corev1.Pod) string {
	var best trouble
	for i := range pods {
		if pods[i].DeletionTimestamp != nil {
			continue
		}
		if t := podTrouble(&pods[i]); t.rank > best.rank {
			best = t
		}
	}
	return best.text
}

func podTrouble(pod *corev1.Pod) trouble {
	var best trouble
	consider := func(t trouble) {
		if t.rank > best.rank {
			best = t
		}
	}
	for _, cond := range pod.Status.Conditions {
		if cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse {
			consider(trouble{rankUnschedulable, cmp.Or(cond.Reason, "Unschedulable") + ": " + cond.Message})
		}
	}
	if pod.Status.Phase == corev1.PodFailed && pod.Status.Reason != "" {
		consider(trouble{rankExited, strings.TrimSuffix(pod.Status.Reason+": "+pod.Status.Message, ": ")})
	}
	for _, s := range append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...) {
		consider(containerTrouble(s))
	}
	return best
}

func containerTrouble(s corev1.ContainerStatus) trouble {
	switch {
	case s.State.Waiting != nil:
		return waitingTrouble(s)
	case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
		return trouble{rankExited, exited(s.Name, s.State.Terminated)}
	case s.State.Running != nil && !s.Ready && s.LastTerminationState.Terminated != nil:
		return trouble{rankNotReady, exited(s.Name, s.LastTerminationState.Terminated) + " and was started again"}
	case s.State.Running != nil && !s.Ready:
		return trouble{rankNotReady, fmt.Sprintf("container %s runs and is not ready", s.Name)}
	default:
		return trouble{}
	}
}

func waitingTrouble(s corev1.ContainerStatus) trouble {
	w := s.State.Waiting
	switch w.Reason {
	case "", "ContainerCreating", "PodInitializing":
		return trouble{rankStarting, cmp.Or(w.Reason, "ContainerCreating")}
	case "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull":
		return trouble{rankWaiting, fmt.Sprintf("%s pulling %s", w.Reason, s.Image)}
	case "CrashLoopBackOff":
		if last := s.LastTerminationState.Terminated; last != nil {
			return trouble{rankWaiting, "CrashLoopBackOff: " + exited(s.Name, last)}
		}
	}
	return trouble{rankWaiting, strings.TrimSuffix(w.Reason+": "+w.Message, ": ")}
}

func exited(name string, t *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("container %s ended with exit code %d", name, t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" {
		text += " (" + t.Reason + ")"
	}
	if line, _, _ := strings.Cut(strings.TrimSpace(t.Message), "\n"); line != "" {
		text += ": " + line
	}
	return text
}
