package component

import "fmt"

// Reason is one link of the chain that says why.
type Reason struct {
	Code    ReasonCode `json:"code"`
	Message string     `json:"message"`
}

// ReasonCode is a kind of reason, for programs.
type ReasonCode string

// The reasons.
const (
	ReasonAlways        ReasonCode = "Always"
	ReasonFactsAsk      ReasonCode = "FactsAsk"
	ReasonFactsDoNotAsk ReasonCode = "FactsDoNotAsk"
	ReasonFactsMissing  ReasonCode = "FactsMissing"
	ReasonAskedFor      ReasonCode = "AskedFor"
	ReasonNotAskedFor   ReasonCode = "NotAskedFor"
	ReasonSwitchedOff   ReasonCode = "SwitchedOff"
	ReasonRequired      ReasonCode = "Required"
	// ReasonWaived: a requirement is missing, and somebody who knows said yes.
	ReasonWaived     ReasonCode = "RequirementWaived"
	ReasonThere      ReasonCode = "ThereBefore"
	ReasonInstalled  ReasonCode = "InstalledByUs"
	ReasonCannotTell ReasonCode = "CannotTell"
	ReasonUnmet      ReasonCode = "RequirementUnmet"
	ReasonNeeded     ReasonCode = "NeededByOthers"
	ReasonConflict   ReasonCode = "Conflict"
	ReasonNeed       ReasonCode = "PrerequisiteMissing"
	ReasonUnfit      ReasonCode = "NotForThisCluster"
	ReasonNoChart    ReasonCode = "ChartNotPublished"
	ReasonUnpinned   ReasonCode = "DigestUnpinned"
	ReasonVariant    ReasonCode = "Variant"
	ReasonOverridden ReasonCode = "ValuesOverridden"
	ReasonVersion    ReasonCode = "OtherVersion"
	ReasonValues     ReasonCode = "OtherValues"
	ReasonAvailable  ReasonCode = "NewerAvailable"
	ReasonTraces     ReasonCode = "TracesFound"
	// ReasonForgotten: the catalogue has the component no more.
	ReasonForgotten ReasonCode = "NotInCatalogue"
)

// ReasonCodes lists the reasons.
func ReasonCodes() []ReasonCode {
	return []ReasonCode{
		ReasonAlways, ReasonFactsAsk, ReasonFactsDoNotAsk, ReasonFactsMissing, ReasonAskedFor, ReasonNotAskedFor, ReasonSwitchedOff,
		ReasonRequired, ReasonWaived, ReasonThere, ReasonInstalled, ReasonCannotTell, ReasonUnmet, ReasonNeeded, ReasonConflict, ReasonNeed,
		ReasonUnfit, ReasonNoChart, ReasonUnpinned, ReasonVariant, ReasonOverridden, ReasonVersion, ReasonValues, ReasonAvailable,
		ReasonTraces, ReasonForgotten,
	}
}

func because(code ReasonCode, format string, args ...any) Reason {
	return Reason{Code: code, Message: fmt.Sprintf(format, args...)}
}
