{{/* Name of the chart, or what nameOverride says. */}}
{{- define "budcluster-agent.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Full name: the release's name alone when it already contains the chart's. At most 40 characters, so that every suffix fits into 63. */}}
{{- define "budcluster-agent.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "budcluster-agent.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "budcluster-agent.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Name of things that belong to no namespace: two agents in one cluster (two hubs) must not share them. */}}
{{- define "budcluster-agent.clusterName" -}}
{{- $full := include "budcluster-agent.fullname" . }}
{{- if eq .Release.Namespace "budcluster-system" }}
{{- $full }}
{{- else }}
{{- printf "%s-%s" .Release.Namespace $full | trunc 200 }}
{{- end }}
{{- end }}

{{- define "budcluster-agent.selectorLabels" -}}
app.kubernetes.io/name: {{ include "budcluster-agent.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end }}

{{- define "budcluster-agent.labels" -}}
{{ include "budcluster-agent.selectorLabels" . }}
{{ include "budcluster-agent.commonLabels" . }}
{{- end }}

{{- define "budcluster-agent.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: budcluster
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "budcluster-agent.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "budcluster-agent.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "budcluster-agent.image" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry }}
{{- $repository := .Values.image.repository }}
{{- if $registry }}
{{- $repository = printf "%s/%s" (trimSuffix "/" $registry) $repository }}
{{- end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The Secret that holds the join token. */}}
{{- define "budcluster-agent.tokenSecret" -}}
{{- default (printf "%s-join-token" (include "budcluster-agent.fullname" .)) .Values.existingSecret.name }}
{{- end }}

{{/* What only a template can refuse: values that are well formed alone but not together. */}}
{{- define "budcluster-agent.validate" -}}
{{- if not .Values.hub.addresses }}
{{- fail "hub.addresses is empty; give the hub's tunnel address: --set 'hub.addresses={hub.example.com:8443}'" }}
{{- end }}
{{- if and .Values.joinToken .Values.existingSecret.name }}
{{- fail "joinToken and existingSecret.name are both set; keep one of them" }}
{{- end }}
{{- end }}

{{/* The ports that the agent must reach to get to the hub: of the proxy when there is one, and of the hub's addresses. */}}
{{- define "budcluster-agent.hubPorts" -}}
{{- $ports := list }}
{{- range .Values.hub.addresses }}
{{- $ports = append $ports (regexFind "[0-9]+$" . | int) }}
{{- end }}
{{- with .Values.proxy.https }}
{{- $port := regexFind ":[0-9]+/?$" . | trimPrefix ":" | trimSuffix "/" }}
{{- $ports = append $ports ($port | default (ternary 443 80 (hasPrefix "https:" .)) | int) }}
{{- end }}
{{- $ports | uniq | sortAlpha | toJson }}
{{- end }}
