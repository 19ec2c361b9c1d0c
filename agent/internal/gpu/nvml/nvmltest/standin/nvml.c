// A stand-in for libnvidia-ml.so.1 with the functions that package nvml calls. It
// answers what a text file beside it says, nvml.state, which is read again when it
// has changed:
//
//	0 nvmlDeviceGetPowerUsage = 71230     GPU 0 answers with this
//	0 nvmlDeviceGetClockInfo.1 = 1980     with this for argument 1
//	0.2 nvmlDeviceGetUUID = MIG-...       the third MIG device of GPU 0
//	- nvmlDeviceGetCount_v2 = 8           what belongs to no GPU
//	0 nvmlDeviceGetSerial = !4            a return code
//	0 nvmlDeviceGetSerial = hang          does not come back while this stands here
//	0 * = !15                             of every function: the GPU is lost
//	- event.1 = 0 8 79 4294967295 4294967295   the first event: GPU, type, data, instances
//	- trace = /tmp/calls                  write each call to that file
//
// What is not said is not supported. Structures are laid out as in NVML's header.
// With OLD defined it is the library of driver 470, which lacks some functions.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef unsigned int uint;
typedef unsigned long long ull;

enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMED_OUT = 10, VERSION_MISMATCH = 25 };
enum { GPUS = 64, PARTS = 9, VALUE = 1 << 14 };

// ---- the state ----

struct line { char *device, *key, *value; };

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; // guards what follows
static char path[4096];
static struct stat read_at;
static char *text;
static struct line *lines;
static size_t count;
static ull delivered; // events

typedef struct device { char name[16]; ull registered; } *dev;
static struct device devices[GPUS * PARTS];

static int compare(const void *a, const void *b)
{
	const struct line *x = a, *y = b;
	int d = strcmp(x->device, y->device);
	return d ? d : strcmp(x->key, y->key);
}

__attribute__((constructor)) static void start(void)
{
	Dl_info self;
	if (dladdr((void *)start, &self)) {
		const char *end = strrchr(self.dli_fname, '/');
		snprintf(path, sizeof path, "%.*s/nvml.state", end ? (int)(end - self.dli_fname) : 1, end ? self.dli_fname : ".");
	}
	for (int i = 0; i < GPUS * PARTS; i++)
		snprintf(devices[i].name, sizeof devices[i].name, i % PARTS ? "%d.%d" : "%d", i / PARTS, i % PARTS - 1);
}

static void parse(void)
{
	count = 0;
	char *rest = text, *row;
	while ((row = strsep(&rest, "\n"))) {
		char *device = strsep(&row, " "), *key = strsep(&row, " ");
		if (!row || strncmp(row, "= ", 2))
			continue;
		lines = realloc(lines, (count + 1) * sizeof *lines);
		lines[count++] = (struct line){device, key, row + 2};
	}
	qsort(lines, count, sizeof *lines, compare);
}

static void reload(void)
{
	struct stat now;
	if (stat(path, &now) || (now.st_ino == read_at.st_ino && now.st_mtim.tv_sec == read_at.st_mtim.tv_sec && now.st_mtim.tv_nsec == read_at.st_mtim.tv_nsec))
		return;
	FILE *f = fopen(path, "r");
	if (!f)
		return;
	text = realloc(text, now.st_size + 1);
	text[fread(text, 1, now.st_size, f)] = 0;
	fclose(f);
	read_at = now;
	parse();
}

static const char *find(const char *device, const char *key)
{
	struct line want = {(char *)device, (char *)key, NULL};
	struct line *found = count ? bsearch(&want, lines, count, sizeof *lines, compare) : NULL;
	return found ? found->value : NULL;
}

static void trace(const char *device, const char *key)
{
	const char *to = find("-", "trace");
	FILE *f = to ? fopen(to, "a") : NULL;
	if (!f)
		return;
	fprintf(f, "%s %s\n", device, key);
	fclose(f);
}

static void doze(void) { nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); }

// look copies the answer of a device, or returns the code that it answers with.
static int look(const char *device, const char *key, char *value)
{
	for (int first = 1;; first = 0) {
		pthread_mutex_lock(&mu);
		reload();
		if (first)
			trace(device, key);
		const char *v = find(device, "*");
		if (!v)
			v = find(device, key);
		snprintf(value, VALUE, "%s", v ? v : "!3");
		pthread_mutex_unlock(&mu);
		if (strcmp(value, "hang"))
			return value[0] == '!' ? atoi(value + 1) : OK;
		doze();
	}
}

#define ASK(device, ...)                              \
	char key[128], value[VALUE];                  \
	snprintf(key, sizeof key, __VA_ARGS__);       \
	int code = look(device, key, value);          \
	if (code)                                     \
		return code;                          \
	char *at = value

static ull next(char **at) { return strtoull(*at, at, 0); }

// ---- the functions, by what they answer ----

#define NUMBER(f, T) int f(dev d, T *out) { ASK(d->name, "%s", __func__); *out = next(&at); return OK; }
#define PAIR(f, T) int f(dev d, T *a, T *b) { ASK(d->name, "%s", __func__); *a = next(&at); *b = next(&at); return OK; }
#define INDEXED(f) int f(dev d, uint of, uint *out) { ASK(d->name, "%s.%u", __func__, of); *out = next(&at); return OK; }
#define TEXT(f) int f(dev d, char *out, uint size) { ASK(d->name, "%s", __func__); snprintf(out, size, "%s", at); return OK; }
#define SYSTEM(f) int f(char *out, uint size) { ASK("-", "%s", __func__); snprintf(out, size, "%s", at); return OK; }

SYSTEM(nvmlSystemGetDriverVersion)
SYSTEM(nvmlSystemGetNVMLVersion)
TEXT(nvmlDeviceGetUUID)
TEXT(nvmlDeviceGetSerial)
TEXT(nvmlDeviceGetName)
NUMBER(nvmlDeviceGetArchitecture, uint)
NUMBER(nvmlDeviceGetMinorNumber, uint)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, uint)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, uint)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, uint)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, uint)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, uint)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, uint)
NUMBER(nvmlDeviceGetPowerUsage, uint)
NUMBER(nvmlDeviceGetPerformanceState, uint)
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, ull)
NUMBER(nvmlDeviceGetSupportedEventTypes, ull)
PAIR(nvmlDeviceGetCudaComputeCapability, int)
PAIR(nvmlDeviceGetPowerManagementLimitConstraints, uint)
PAIR(nvmlDeviceGetEncoderUtilization, uint)
PAIR(nvmlDeviceGetDecoderUtilization, uint)
INDEXED(nvmlDeviceGetMaxClockInfo)
INDEXED(nvmlDeviceGetClockInfo)
INDEXED(nvmlDeviceGetPcieThroughput)
INDEXED(nvmlDeviceGetTemperature)
INDEXED(nvmlDeviceGetTemperatureThreshold)
INDEXED(nvmlDeviceGetNvLinkVersion)
INDEXED(nvmlDeviceGetNvLinkRemoteDeviceType)
#ifndef OLD
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, ull)
NUMBER(nvmlDeviceGetMaxMigDeviceCount, uint)
NUMBER(nvmlDeviceGetGpuInstanceId, uint)
NUMBER(nvmlDeviceGetComputeInstanceId, uint)
PAIR(nvmlDeviceGetMigMode, uint)
#endif

int nvmlInit_v2(void)
{
	ASK("-", "%s", __func__);
	(void)at;
	return OK;
}

int nvmlShutdown(void) { return OK; }

const char *nvmlErrorString(int code) { return code ? "an error of the stand-in" : "Success"; }

int nvmlSystemGetCudaDriverVersion(int *out)
{
	ASK("-", "%s", __func__);
	*out = next(&at);
	return OK;
}

int nvmlDeviceGetCount_v2(uint *out)
{
	ASK("-", "%s", __func__);
	*out = next(&at);
	return OK;
}

int nvmlDeviceGetHandleByIndex_v2(uint index, dev *out)
{
	if (index >= GPUS)
		return INVALID_ARGUMENT;
	ASK(devices[index * PARTS].name, "%s", __func__);
	(void)at;
	*out = &devices[index * PARTS];
	return OK;
}

#ifndef OLD
int nvmlDeviceGetMigDeviceHandleByIndex(dev d, uint index, dev *out)
{
	if (index >= PARTS - 1)
		return INVALID_ARGUMENT;
	ASK(d[1 + index].name, "%s", __func__);
	(void)at;
	*out = &d[1 + index];
	return OK;
}
#endif

struct pci { char legacy[16]; uint domain, bus, device, id, subsystem; char bus_id[32]; };

int nvmlDeviceGetPciInfo_v3(dev d, struct pci *out)
{
	ASK(d->name, "%s", __func__);
	snprintf(out->bus_id, sizeof out->bus_id, "%s", at);
	return OK;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(dev d, uint link, struct pci *out)
{
	ASK(d->name, "%s.%u", __func__, link);
	snprintf(out->bus_id, sizeof out->bus_id, "%s", at);
	return OK;
}

int nvmlDeviceGetMemoryAffinity(dev d, uint words, unsigned long *out, uint scope)
{
	ASK(d->name, "%s", __func__);
	(void)scope;
	for (uint i = 0; i < words; i++)
		out[i] = i ? 0 : next(&at);
	return OK;
}

struct memory { ull total, free, used; };

int nvmlDeviceGetMemoryInfo(dev d, struct memory *out)
{
	ASK(d->name, "%s", __func__);
	*out = (struct memory){.total = next(&at)};
	out->free = next(&at), out->used = next(&at);
	return OK;
}

int nvmlDeviceGetBAR1MemoryInfo(dev d, struct memory *out)
{
	ASK(d->name, "%s", __func__);
	*out = (struct memory){.total = next(&at)};
	out->free = next(&at), out->used = next(&at);
	return OK;
}

#ifndef OLD
struct memory_v2 { uint version; ull total, reserved, free, used; };

int nvmlDeviceGetMemoryInfo_v2(dev d, struct memory_v2 *out)
{
	if (out->version != (sizeof *out | 2 << 24))
		return VERSION_MISMATCH;
	ASK(d->name, "%s", __func__);
	out->total = next(&at), out->reserved = next(&at), out->free = next(&at), out->used = next(&at);
	return OK;
}
#endif

struct utilization { uint gpu, memory; };

int nvmlDeviceGetUtilizationRates(dev d, struct utilization *out)
{
	ASK(d->name, "%s", __func__);
	out->gpu = next(&at), out->memory = next(&at);
	return OK;
}

struct sample { ull time; ull value; };

// The state gives pairs of time and percent, of which those after since are told.
int nvmlDeviceGetSamples(dev d, uint type, ull since, uint *kind, uint *n, struct sample *out)
{
	ASK(d->name, "%s.%u", __func__, type);
	uint found = 0;
	*kind = 1;
	while (*at) {
		ull time = next(&at), percent = next(&at);
		if (time <= since)
			continue;
		if (out && found < *n)
			out[found] = (struct sample){time, percent};
		found++;
	}
	*n = found;
	return found ? OK : NOT_FOUND;
}

struct field { uint id, scope; long long time, latency; uint kind; int code; union { ull number; double real; } value; };

// A field is its type, as NVML numbers them, and its value.
int nvmlDeviceGetFieldValues(dev d, int n, struct field *fields)
{
	ASK(d->name, "%s", __func__);
	for (int i = 0; i < n; i++) {
		struct field *f = &fields[i];
		snprintf(key, sizeof key, f->scope ? "%s.%u.%u" : "%s.%u", __func__, f->id, f->scope);
		f->code = look(d->name, key, value);
		at = value;
		if (f->code)
			continue;
		f->kind = next(&at);
		if (f->kind == 0)
			f->value.real = strtod(at, NULL);
		else
			f->value.number = strtoll(at, NULL, 0) < 0 ? (ull)strtoll(at, NULL, 0) : next(&at);
	}
	return OK;
}

struct process { uint pid; ull memory; uint gpu_instance, compute_instance; };

static int processes(dev d, const char *function, uint *n, struct process *out)
{
	ASK(d->name, "%s", function);
	uint found = 0;
	while (*at) {
		struct process p = {.pid = next(&at)};
		p.memory = next(&at), p.gpu_instance = next(&at), p.compute_instance = next(&at);
		if (found < *n)
			out[found] = p;
		found++;
	}
	int fits = found <= *n;
	*n = found;
	return fits ? OK : INSUFFICIENT_SIZE;
}

#ifndef OLD
int nvmlDeviceGetComputeRunningProcesses_v3(dev d, uint *n, struct process *out) { return processes(d, __func__, n, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(dev d, uint *n, struct process *out) { return processes(d, __func__, n, out); }
int nvmlDeviceGetMPSComputeRunningProcesses_v3(dev d, uint *n, struct process *out) { return processes(d, __func__, n, out); }
#else
int nvmlDeviceGetComputeRunningProcesses_v2(dev d, uint *n, struct process *out) { return processes(d, __func__, n, out); }
#endif

struct share { uint pid; ull time; uint sm, memory, encoder, decoder; };

int nvmlDeviceGetProcessUtilization(dev d, struct share *out, uint *n, ull since)
{
	ASK(d->name, "%s", __func__);
	uint found = 0;
	while (*at) {
		struct share s = {.pid = next(&at)};
		s.time = next(&at), s.sm = next(&at);
		if (s.time <= since)
			continue;
		if (out && found < *n)
			out[found] = s;
		found++;
	}
	int fits = out && found <= *n;
	*n = found;
	return fits ? OK : found ? INSUFFICIENT_SIZE : NOT_FOUND;
}

// ---- events ----

struct event { dev device; ull type, data; uint gpu_instance, compute_instance; };

int nvmlEventSetCreate(void **out)
{
	*out = &delivered;
	return OK;
}

int nvmlEventSetFree(void *set)
{
	(void)set;
	return OK;
}

int nvmlDeviceRegisterEvents(dev d, ull types, void *set)
{
	ASK(d->name, "%s", __func__);
	(void)set, (void)at;
	d->registered |= types;
	return OK;
}

// take brings the next event, if somebody has registered for it.
static int take(struct event *out)
{
	char key[64], value[VALUE];
	snprintf(key, sizeof key, "event.%llu", delivered + 1);
	if (look("-", key, value))
		return 0;
	delivered++;
	char *at = value;
	*out = (struct event){.device = &devices[next(&at) % GPUS * PARTS]};
	out->type = next(&at), out->data = next(&at), out->gpu_instance = next(&at), out->compute_instance = next(&at);
	return (out->device->registered & out->type) != 0;
}

int nvmlEventSetWait_v2(void *set, struct event *out, uint milliseconds)
{
	char value[VALUE];
	(void)set;
	for (uint waited = 0;; waited += 2) {
		int code = look("-", "nvmlEventSetWait_v2", value);
		if (code && code != NOT_SUPPORTED)
			return code;
		if (take(out))
			return OK;
		if (waited >= milliseconds)
			return TIMED_OUT;
		doze();
	}
}
