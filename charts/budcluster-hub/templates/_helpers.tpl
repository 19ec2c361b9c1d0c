{{/* Name of the chart, or what nameOverride says. */}}
{{- define "budcluster-hub.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Full name: the release's name alone when it already contains the chart's. At most 40 characters, so that every suffix fits into 63. */}}
{{- define "budcluster-hub.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "budcluster-hub.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "budcluster-hub.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "budcluster-hub.selectorLabels" -}}
app.kubernetes.io/name: {{ include "budcluster-hub.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: hub
{{- end }}

{{- define "budcluster-hub.labels" -}}
{{ include "budcluster-hub.selectorLabels" . }}
{{ include "budcluster-hub.commonLabels" . }}
{{- end }}

{{/* Labels of what is no part of the hub itself: the given component, and never the hub's selector. */}}
{{- define "budcluster-hub.labelsOf" -}}
app.kubernetes.io/name: {{ include "budcluster-hub.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{ include "budcluster-hub.commonLabels" .root }}
{{- end }}

{{- define "budcluster-hub.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: budcluster
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "budcluster-hub.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "budcluster-hub.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "budcluster-hub.image" -}}
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

{{/* The Secret of the encryption key, and the key in it. */}}
{{- define "budcluster-hub.keySecret" -}}
{{- default (printf "%s-encryption-key" (include "budcluster-hub.fullname" .)) .Values.encryptionKey.existingSecret.name }}
{{- end }}

{{/*
A Tink keyset of one AES-256-GCM key, as the hub itself would make it: the key's protobuf is field 3 (tag 0x1a) with 32 (0x20) bytes.
The key's number is no secret, so randInt is good enough for it; randBytes reads the system's random source.
*/}}
{{- define "budcluster-hub.newKey" -}}
{{- $id := randInt 1 2147483647 }}
{{- $key := randBytes 32 | b64dec | printf "\x1a\x20%s" | b64enc }}
{{- $data := dict "typeUrl" "type.googleapis.com/google.crypto.tink.AesGcmKey" "value" $key "keyMaterialType" "SYMMETRIC" }}
{{- dict "primaryKeyId" $id "key" (list (dict "keyData" $data "status" "ENABLED" "keyId" $id "outputPrefixType" "TINK")) | toJson }}
{{- end }}

{{/* The host of api.url; empty without one. */}}
{{- define "budcluster-hub.apiHost" -}}
{{- with .Values.api.url }}
{{- regexReplaceAll ":[0-9]+$" (urlParse .).host "" }}
{{- end }}
{{- end }}

{{/* The port that agents dial. */}}
{{- define "budcluster-hub.tunnelPort" -}}
{{- .Values.tunnel.service.port | default (regexFind "[0-9]+$" .Values.tunnel.address) | int }}
{{- end }}

{{- define "budcluster-hub.apiScheme" -}}
{{- ternary "HTTPS" "HTTP" (not (empty .Values.api.tls.existingSecret)) }}
{{- end }}

{{/* hub.yaml: what the values say of the hub's own settings, and over it what the chart sets. */}}
{{- define "budcluster-hub.config" -}}
{{- $api := dict "listen" ":8080" "url" .Values.api.url }}
{{- if .Values.api.tls.existingSecret }}
{{- $_ := set $api "tlsCertFile" "/var/run/secrets/budcluster/api-tls/tls.crt" }}
{{- $_ := set $api "tlsKeyFile" "/var/run/secrets/budcluster/api-tls/tls.key" }}
{{- end }}
{{- $tunnel := dict "listen" ":8443" "address" .Values.tunnel.address "names" .Values.tunnel.names }}
{{- $set := dict "stateDir" "/var/lib/budcluster" "databaseURLFile" "/var/run/secrets/budcluster/database/url" "cryptoKeysDir" "/var/run/secrets/budcluster/keys" "api" $api "tunnel" $tunnel }}
{{- with .Values.dapr }}
{{- if .enabled }}
{{- /* On loopback: only the pod's own sidecar reaches the app port. */}}
{{- $dapr := dict "enabled" true "appID" .appID "appListen" (printf "127.0.0.1:%v" .appPort) }}
{{- if .apiTokenSecret }}
{{- $_ := set $dapr "apiTokenFile" "/var/run/secrets/budcluster/dapr-api/token" }}
{{- end }}
{{- if .appTokenSecret }}
{{- $_ := set $dapr "appTokenFile" "/var/run/secrets/budcluster/dapr-app/token" }}
{{- end }}
{{- $_ := set $set "dapr" $dapr }}
{{- end }}
{{- end }}
{{- mustMergeOverwrite (mustDeepCopy .Values.config) $set | toYaml }}
{{- end }}

{{/* What only a template can refuse: values that are well formed alone but not together, and settings that have two places. */}}
{{- define "budcluster-hub.validate" -}}
{{- if not .Values.database.existingSecret.name }}
{{- fail "database.existingSecret.name is empty; make a Secret that holds the URL of a PostgreSQL database under the key `uri`, and name it: --set database.existingSecret.name=hub-database" }}
{{- end }}
{{- if not .Values.tunnel.address }}
{{- fail "tunnel.address is empty; give the host:port that agents dial, as their clusters see it: --set tunnel.address=hub.example.com:8443" }}
{{- end }}
{{- $places := dict "databaseURL" "database.existingSecret: it holds a password" "databaseURLFile" "database.existingSecret" "cryptoKeysDir" "encryptionKey" "stateDir" "nothing: the folder is fixed" "dev" "nothing: a hub in a cluster has a database of its own" }}
{{- range $key, $place := $places }}
{{- if hasKey $.Values.config $key }}
{{- fail (printf "config.%s is not for this place; use %s" $key $place) }}
{{- end }}
{{- end }}
{{- $places = dict "api.listen" "nothing: the port in the pod is fixed" "api.url" "api.url" "api.tlsCertFile" "api.tls.existingSecret" "api.tlsKeyFile" "api.tls.existingSecret" "tunnel.listen" "nothing: the port in the pod is fixed" "tunnel.address" "tunnel.address" "tunnel.names" "tunnel.names" "dapr.enabled" "dapr.enabled" "dapr.appID" "dapr.appID" "dapr.appListen" "dapr.appPort" "dapr.apiTokenFile" "dapr.apiTokenSecret" "dapr.appTokenFile" "dapr.appTokenSecret" }}
{{- range $key, $place := $places }}
{{- $path := splitList "." $key }}
{{- if hasKey (get $.Values.config (first $path) | default dict) (last $path) }}
{{- fail (printf "config.%s is not for this place; use %s" $key $place) }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) (not .Values.api.url) }}
{{- fail "ingress.enabled is true, but neither ingress.hosts nor api.url names a host; give one of them" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.enabled is true, but httpRoute.parentRefs names no Gateway" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) }}
{{- fail "autoscaling.maxReplicas is less than autoscaling.minReplicas" }}
{{- end }}
{{- if and .Values.dapr.components (not .Values.dapr.enabled) }}
{{- fail "dapr.components are given, but dapr.enabled is false" }}
{{- end }}
{{- $shared := (.Values.config.dapr | default dict).stateStore | default "statestore" }}
{{- range .Values.dapr.components }}
{{- if and (hasPrefix "state." .type) (eq .name $shared) (not (has (dict "name" "keyPrefix" "value" "none") (.metadata | default list))) }}
{{- fail (printf "dapr.components: %s is the state store that other services read, but has no {name: keyPrefix, value: none} in its metadata: they would not find the hub's keys" .name) }}
{{- end }}
{{- end }}
{{- end }}
