// Counts responses by status, tells each client its number, and writes the counts to the log at its end.
//
// A hook returns true for ok. An error is false, with its text in `err`: it goes to the log, and the instance lives on.
// What a hook is lent it drops; strings that it returns are the caller's to free, so they are copies.

#include "stateful_plugin.h"
#include <stdio.h>
#include <string.h>

// Milliseconds that one line of the log takes at the most: with less left, the rest is reported instead of written.
#define LINE_MS 5

// Responses by status, 100 to 999, and all together. Each instance has its own.
static uint32_t visits[1000];
static uint32_t total;

static tidegate_plugin_http_field_value_t bytes(const char *text) {
    return (tidegate_plugin_http_field_value_t){.ptr = (uint8_t *)text, .len = strlen(text)};
}

static stateful_plugin_string_t string(const char *text) {
    return (stateful_plugin_string_t){.ptr = (uint8_t *)text, .len = strlen(text)};
}

static void say(const char *line) {
    stateful_plugin_string_t context = string("visits"), message = string(line);
    wasi_logging_logging_log(WASI_LOGGING_LOGGING_LEVEL_INFO, &context, &message);
}

// The header that is set is a constant, so there is one way in which the host can refuse it.
static bool edited(bool is_set, stateful_plugin_string_t *err) {
    if (!is_set) stateful_plugin_string_dup(err, "the message has no room for another header");
    return is_set;
}

bool exports_tidegate_plugin_configure_hook_configure(stateful_plugin_string_t *config, stateful_plugin_string_t *err) {
    bool is_empty = config->len == 2 && memcmp(config->ptr, "{}", 2) == 0;
    stateful_plugin_string_free(config);
    if (!is_empty) stateful_plugin_string_dup(err, "visits-c takes no config");
    return is_empty;
}

bool exports_tidegate_plugin_request_hook_on_request(exports_tidegate_plugin_request_hook_borrow_request_t request,
                                                     exports_tidegate_plugin_request_hook_verdict_t *ret,
                                                     stateful_plugin_string_t *err) {
    stateful_plugin_string_t name = string("x-visits-by");
    tidegate_plugin_http_field_value_t value = bytes("visits-c");
    tidegate_plugin_http_edit_error_t refused;
    bool is_set = tidegate_plugin_http_method_request_set_header(request, &name, &value, &refused);
    tidegate_plugin_http_request_drop_borrow(request);
    ret->tag = TIDEGATE_PLUGIN_HTTP_VERDICT_FORWARD;
    return edited(is_set, err);
}

bool exports_tidegate_plugin_response_hook_on_response(exports_tidegate_plugin_response_hook_borrow_request_t request,
                                                       exports_tidegate_plugin_response_hook_borrow_response_t response,
                                                       exports_tidegate_plugin_response_hook_verdict_t *ret,
                                                       stateful_plugin_string_t *err) {
    char number[16];
    snprintf(number, sizeof number, "%u", ++total);
    visits[tidegate_plugin_http_method_response_status(response) % 1000]++;
    stateful_plugin_string_t name = string("x-visit");
    tidegate_plugin_http_field_value_t value = bytes(number);
    tidegate_plugin_http_edit_error_t refused;
    bool is_set = tidegate_plugin_http_method_response_set_header(response, &name, &value, &refused);
    tidegate_plugin_http_request_drop_borrow(request);
    tidegate_plugin_http_response_drop_borrow(response);
    ret->tag = TIDEGATE_PLUGIN_HTTP_VERDICT_FORWARD;
    return edited(is_set, err);
}

static const char *reason(void) {
    static const char *const names[] = {"terminate", "reload", "disable", "quarantine", "recycle", "scale-in"};
    tidegate_plugin_lifecycle_stop_reason_t reason;
    bool is_known = tidegate_plugin_lifecycle_reason(&reason) && reason < sizeof names / sizeof *names;
    return is_known ? names[reason] : "unknown";
}

bool exports_tidegate_plugin_shutdown_hook_shutdown(uint64_t deadline_ms, stateful_plugin_string_t *err) {
    char line[96];
    snprintf(line, sizeof line, "stopped (%s) after %u responses; %llu ms to say so", reason(), total, deadline_ms);
    say(line);
    for (unsigned status = 0; status < 1000; status++) {
        if (visits[status] == 0) continue;
        if (tidegate_plugin_lifecycle_remaining_ms() < LINE_MS) {
            snprintf(line, sizeof line, "counts from status %u on not written: the time is up", status);
            stateful_plugin_string_dup(err, line);
            return false;
        }
        snprintf(line, sizeof line, "status %u: %u", status, visits[status]);
        say(line);
    }
    return true;
}
